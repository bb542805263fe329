"""Reads a TUF repository with python-tuf: client.py ROOT URL FOLDER prints the trusted root."""

import pathlib
import sys

from tuf.ngclient import Updater

root, url, folder = sys.argv[1:]
metadata, targets = pathlib.Path(folder) / "metadata", pathlib.Path(folder) / "targets"
metadata.mkdir(parents=True)
targets.mkdir()
updater = Updater(
    metadata_dir=str(metadata),
    metadata_base_url=url,
    target_dir=str(targets),
    target_base_url=url + "/targets/",
    bootstrap=pathlib.Path(root).read_bytes(),
)
updater.refresh()
target = updater.get_targetinfo("trusted_root.json")
print(pathlib.Path(updater.download_target(target)).read_text(), end="")
