"""A TUF repository by python-tuf, for the gate to read: repository.py FOLDER TRUSTED_ROOT."""

import datetime
import pathlib
import sys

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

folder, trusted_root = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
(folder / "targets").mkdir(parents=True)
expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=7)
expires = expires.replace(microsecond=0)


def write(name, metadata):
    metadata.to_file(str(folder / name), JSONSerializer(compact=False))
    return metadata


# Two of three hold the root, as Sigstore's own does it, with keys of several kinds.
holders = [
    CryptoSigner.generate_ecdsa(),
    CryptoSigner.generate_ecdsa(),
    CryptoSigner.generate_ed25519(),
]
online = CryptoSigner.generate_ecdsa()


def root_of(version, holders):
    root = Root(version=version, expires=expires, consistent_snapshot=True)
    for holder in holders:
        root.add_key(holder.public_key, "root")
    root.roles["root"].threshold = 2
    for role in ("timestamp", "snapshot", "targets"):
        root.add_key(online.public_key, role)
    return Metadata(root)


def signed(metadata, signers):
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata


write("1.root.json", signed(root_of(1, holders), holders))
# A holder has left: the next root is signed by the old ones and by the new.
successors = [holders[0], holders[2], CryptoSigner.generate_ecdsa()]
write("2.root.json", signed(root_of(2, successors), holders + successors[2:]))

targets = Targets(expires=expires)
target = TargetFile.from_file("trusted_root.json", str(trusted_root))
targets.targets["trusted_root.json"] = target
name = target.hashes["sha256"] + ".trusted_root.json"
(folder / "targets" / name).write_bytes(trusted_root.read_bytes())
write("1.targets.json", signed(Metadata(targets), [online]))
snapshot = Snapshot(expires=expires, meta={"targets.json": MetaFile(1)})
write("1.snapshot.json", signed(Metadata(snapshot), [online]))
timestamp = Timestamp(expires=expires, snapshot_meta=MetaFile(1))
write("timestamp.json", signed(Metadata(timestamp), [online]))
