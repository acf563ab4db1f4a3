"""Build cupy_backends.cuda.api.runtime from CuPy's source release, linked to
the simulator's runtime (the wheel's own extension has NVIDIA's runtime linked
in statically, which accepts no driver but NVIDIA's).

usage: python build_runtime.py OUTDIR SRCDIR
"""

import os
import subprocess
import sys
import sysconfig
import tarfile
from importlib.metadata import distribution, distributions

from about import CUDA_VERSION

out, src = map(os.path.abspath, sys.argv[1:3])
names = [d.metadata["Name"] for d in distributions()]
wheel = next(n for n in names if n and n.lower().startswith("cupy"))
version = distribution(wheel).version
work = os.path.join(out, "work")
os.makedirs(work, exist_ok=True)

# Cython goes into the build folder, so that the user's environment is left alone.
cy = os.path.join(work, "cython")
pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
if not os.path.isdir(cy):
    subprocess.check_call([*pip, "install", "--no-deps", "--target", cy, "Cython>=3.2,<3.3"])
sdist = os.environ.get("SIMGPU_SDIST") or os.path.join(work, f"cupy-{version}.tar.gz")
if not os.path.exists(sdist):
    # pip prepares metadata after the download; CuPy's stub mode avoids the need for a CUDA toolkit in that step.
    env = dict(os.environ, CUPY_INSTALL_USE_STUB="1", READTHEDOCS="True")
    subprocess.check_call(
        [*pip, "download", "--no-deps", "--no-binary", "cupy", f"cupy=={version}", "-d", work],
        env=env,
        stdout=subprocess.DEVNULL,
    )
with tarfile.open(sdist) as t:
    wanted = [m for m in t.getmembers() if "/cupy_backends/" in m.name]
    # (Python before 3.11.4 has no filters.)
    t.extractall(work, wanted, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
root = os.path.join(work, f"cupy-{version}")
pyx = os.path.join(root, "cupy_backends/cuda/api/runtime.pyx")
cpp = os.path.join(work, "runtime.cpp")
sys.path.insert(0, cy)
from Cython.Compiler.Main import compile as cython_compile  # noqa: E402
from Cython.Compiler.Options import CompilationOptions, default_options  # noqa: E402

opts = CompilationOptions(
    default_options,
    output_file=cpp,
    cplus=True,
    language_level=3,
    include_path=[root],
    compiler_directives={
        "embedsignature": True,
        "c_api_binop_methods": True,
        "binding": False,
        "warn.deprecated.IF": False,
        "freethreading_compatible": True,
    },
    compile_time_env={
        "CUPY_USE_CUDA_PYTHON": False,
        "CUPY_CUFFT_STATIC": False,
        "CUPY_CYTHON_VERSION": "3",
        "CUPY_CUDA_VERSION": CUDA_VERSION,
        "CUPY_HIP_VERSION": 0,
    },
)
os.chdir(root)
res = cython_compile(pyx, opts, full_module_name="cupy_backends.cuda.api.runtime")
if res.num_errors:
    sys.exit("cython failed")
# The generated file includes '../../cupy_backend_runtime.h' relative to the pyx.
target = os.path.join(out, "runtime" + sysconfig.get_config_var("EXT_SUFFIX"))
subprocess.check_call(
    [
        os.environ.get("CXX", "g++"),
        "-O1",
        "-w",
        "-shared",
        "-fPIC",
        f"-DCUDA_VERSION={CUDA_VERSION}",
        "-o",
        target,
        cpp,
        "-I" + os.path.dirname(pyx),
        "-I" + os.path.join(src, "stubinc"),
        "-I" + sysconfig.get_paths()["include"],
        "-L" + out,
        "-lsimgpu",
        "-Wl,-rpath,$ORIGIN",
    ]
)
