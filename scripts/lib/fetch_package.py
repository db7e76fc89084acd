"""Fetches one pinned file of a Python package with pip, checks it, and puts it in place whole or not at all.

usage: fetch_package.py NAME VERSION SHA256 TARGET
A TARGET that ends in .whl asks for the wheel, any other for the source package. pip's own settings say where from.
"""

import hashlib
import os
import subprocess
import sys
import tempfile


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def fetch(name, version, sha256, target):
    folder = os.path.dirname(os.path.abspath(target))
    os.makedirs(folder, exist_ok=True)
    # Beside the target, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
        pins = os.path.join(work, "pins.txt")
        with open(pins, "w") as file:
            file.write(f"{name}=={version} --hash=sha256:{sha256}\n")
        kind = "--only-binary" if target.endswith(".whl") else "--no-binary"
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                        "--no-cache-dir", "--no-input", "--no-deps", kind, name, "--require-hashes", "-r", pins,
                        "--dest", os.path.join(work, "files")],
                       check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        files = os.listdir(os.path.join(work, "files"))
        if len(files) != 1:
            raise RuntimeError(f"pip brought {files} instead of one file")
        path = os.path.join(work, "files", files[0])
        if sha256_of(path) != sha256:
            raise RuntimeError(f"{files[0]} has another checksum than {sha256}")
        os.replace(path, target)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        fetch(*sys.argv[1:])
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {sys.argv[1]} {sys.argv[2]} could not be fetched: {error}")
