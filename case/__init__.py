"""The photo case: photos of gardens are wanted and photos of things for sale are not, from a folder to a service.

`make case`, or `python -m case`, runs all of it and writes a report to build/case/. Everything that masslib has is used
once: shards, training on two workers one of which is killed, compression beside a network trained small, a threshold
for what mistakes cost, a package, a service, drift that is planted and noticed, and the next version.
"""
