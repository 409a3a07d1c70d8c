import pytest

from masslib._util.files import BLANK_SEAL, replacing, seal, sealed


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with replacing(target) as temporary:
        temporary.write_text("first")
    with pytest.raises(RuntimeError, match="no luck"), replacing(target) as temporary:
        temporary.write_text("half of the sec")
        raise RuntimeError("no luck")
    assert target.read_text() == "first"
    assert [entry.name for entry in target.parent.iterdir()] == ["file.txt"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "folder"
    for text in ("first", "second"):
        with replacing(target) as temporary:
            temporary.mkdir()
            (temporary / text).touch()
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.mkdir()
        raise RuntimeError
    assert [entry.name for entry in target.iterdir()] == ["second"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_seal_reveals_any_flipped_bit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"head" * 9 + BLANK_SEAL + b"tail" * 9)
    checksum = seal(path)
    assert len(checksum) == 64
    assert sealed(path)
    content = path.read_bytes()
    for at in (0, content.index(checksum.encode()), len(content) - 1):
        damaged = bytearray(content)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="file is damaged: its SHA-256 is .* make or copy it again"):
            sealed(path)


def test_without_a_blank_seal_there_is_nothing_to_fill(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert not sealed(path)
    with pytest.raises(ValueError, match="holds no blank seal"):
        seal(path)
