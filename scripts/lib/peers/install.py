"""Installs the engines that fastkv is compared with, each pinned and checked, into a folder of its own.

What is there is left alone. A peer that cannot be installed raises Missing with one line that says why.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile

HERE = os.path.dirname(os.path.abspath(__file__))
LIB = os.path.dirname(HERE)
sys.path.insert(0, LIB)
from fetch_package import fetch  # noqa: E402

IK_PACKAGE = ("ik-llama-cpp-python", "0.1.5", "33c67eb99e4dcab5e611050433243815709b8b3067753f9ce18375013cf002ad")


class Missing(Exception):
    """A peer that cannot be had here."""


def llama_package():
    """The package that fastkv's own ggml is built from."""
    with open(os.path.join(LIB, "..", "..", "cmake", "LlamaFromSource.cmake")) as file:
        text = file.read()
    return tuple(re.search(rf"set\({name} (\S+)\)", text).group(1)
                 for name in ("llama_package", "llama_package_version", "llama_package_sha256"))


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


def run(what, command, log):
    with open(log, "ab") as file:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file).returncode
    if status:
        raise Missing(f"{what} failed, see {log}")


def fingerprint(*parts):
    """Of everything that a built program depends on, the processor included: it is built for this one."""
    digest = hashlib.sha256()
    for name in ("CMakeLists.txt", "llama_driver.cpp"):
        with open(os.path.join(HERE, name), "rb") as file:
            digest.update(file.read())
    with open("/proc/cpuinfo") as file:
        digest.update(next((line for line in file if line.startswith("flags")), "").encode())
    compiler = subprocess.run([os.environ.get("CXX", "c++"), "--version"], capture_output=True, text=True)
    digest.update(repr((parts, compiler.stdout)).encode())
    return digest.hexdigest()[:12]


def unpack(archive, member, target):
    """The folder `member` of the package, to `target`."""
    with tarfile.open(archive) as package:
        for item in package:
            name = item.name.split("/", 1)[-1]
            if name.startswith(member + "/"):
                item.name = name[len(member) + 1:]
                package.extract(item, target)


def llama_family(folder, name, package, member, options):
    """The path of the driver, built against the source in `package`."""
    home = os.path.join(folder, f"{name}-{package[1]}-{fingerprint(package, options)}")
    driver = os.path.join(home, "llama_driver")
    if os.path.exists(driver):
        return driver
    if shutil.which("cmake") is None or shutil.which("ninja") is None:
        raise Missing("cmake and ninja are needed to build it")
    say(f"Building {name} ({package[0]} {package[1]}), which takes minutes, in {home}")
    shutil.rmtree(home, ignore_errors=True)
    os.makedirs(home)
    archive = os.path.join(folder, "downloads", f"{package[0]}-{package[1]}.tar.gz")
    if not os.path.exists(archive):
        try:
            fetch(*package, archive)
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            raise Missing(f"{package[0]} {package[1]} cannot be fetched: {error}") from error
    source, build, log = (os.path.join(home, part) for part in ("source", "build", "build.log"))
    unpack(archive, member, source)
    run("configuring", ["cmake", "-S", HERE, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                        f"-DPEER_SOURCE={source}", *options], log)
    run("building", ["cmake", "--build", build, "--target", "llama_driver"], log)
    os.replace(os.path.join(build, "llama_driver"), driver)
    shutil.rmtree(build)
    shutil.rmtree(source)
    return driver


def environment(folder, name):
    """The Python of a virtual environment with what NAME.txt pins."""
    pins = os.path.join(HERE, name + ".txt")
    with open(pins, "rb") as file:
        home = os.path.join(folder, f"{name}-{hashlib.sha256(file.read() + sys.version.encode()).hexdigest()[:12]}")
    python = os.path.join(home, "bin", "python")
    complete = os.path.join(home, "complete")
    if os.path.exists(complete):
        return python
    say(f"Installing {name} in {home}")
    shutil.rmtree(home, ignore_errors=True)
    os.makedirs(home)
    log = home + ".log"
    run("making a virtual environment", [sys.executable, "-m", "venv", "--without-pip", home], log)
    packages = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                              capture_output=True, text=True, check=True).stdout.strip()
    run("pip", [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
                "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", pins, "--target", packages], log)
    open(complete, "w").close()
    return python


def llama_cpp(folder):
    return llama_family(folder, "llama.cpp", llama_package(), "vendor/llama.cpp", [])


def ik_llama_cpp(folder):
    return llama_family(folder, "ik_llama.cpp", IK_PACKAGE, "vendor/ik_llama.cpp", ["-DPEER_IK=ON"])


def openvino(folder):
    return environment(folder, "openvino")
