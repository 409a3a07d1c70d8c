import pytest

from masslib._util import manifest
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
            manifest.write(temporary)
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.mkdir()
        raise RuntimeError
    assert sorted(entry.name for entry in target.iterdir()) == ["manifest.json", "second"]
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


def _folder(target, **files):
    with replacing(target) as temporary:
        temporary.mkdir()
        for name, text in files.items():
            (temporary / name).write_text(text)
        manifest.write(temporary)


def test_a_folder_of_ours_is_replaced_until_somebody_adds_to_it(tmp_path):
    target = tmp_path / "result"
    for text in ("first", "second"):
        _folder(target, a=text)
    assert (target / "a").read_text() == "second"
    (target / "notes").mkdir()
    (target / "notes" / "thesis.txt").write_text("mine")
    (target / "notes" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"result holds files that masslib did not .*: notes/.*, notes/.*; pass a new"):
        _folder(target, a="third")
    assert (target / "notes" / "thesis.txt").read_text() == "mine"
    assert (target / "a").read_text() == "second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result"]


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"files": ["a"]}', '{"files": ["a"], "seal": 1}'])
def test_a_manifest_of_another_program_makes_a_folder_a_foreign_one(tmp_path, text):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "a").touch()
    (tmp_path / "app" / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="masslib did not write, which would be lost: "), replacing(tmp_path / "app"):
        pytest.fail("refused before the work begins")
    assert sorted(entry.name for entry in (tmp_path / "app").iterdir()) == ["a", "manifest.json"]


def test_what_comes_while_the_block_runs_is_kept_too(tmp_path):
    with pytest.raises(ValueError, match="would be lost: late.txt"), replacing(tmp_path / "result") as temporary:
        temporary.mkdir()
        (tmp_path / "result").mkdir()
        (tmp_path / "result" / "late.txt").touch()
    assert (tmp_path / "result" / "late.txt").exists()


def test_files_and_folders_do_not_take_each_others_place(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="file is a file, and a folder is to be written; pass another name"):
        _folder(tmp_path / "file")
    with pytest.raises(ValueError, match="folder is a folder, and a file is"), replacing(tmp_path / "folder") as path:
        path.touch()
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def test_links_are_followed(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    for name in ("file", "folder"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    for text in ("first", "second"):
        with replacing(tmp_path / "file") as path:
            path.write_text(text)
        _folder(tmp_path / "folder", a=text)
    assert (tmp_path / "disk" / "file").read_text() == (tmp_path / "disk" / "folder" / "a").read_text() == "second"
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "folder").is_symlink()
    monkeypatch.chdir(tmp_path / "folder")
    _folder(".", a="third")
    assert (tmp_path / "folder" / "a").read_text() == "third"
