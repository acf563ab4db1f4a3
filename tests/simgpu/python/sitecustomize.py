"""Loaded at interpreter start by `simgpu/run`: installs the simulator."""

import ctypes
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig

_home = os.environ.get("SIMGPU_HOME")


class _Finder(importlib.abc.MetaPathFinder):
    """Provides the few modules of CuPy that contain precompiled device code."""

    def find_spec(self, name, path=None, target=None):
        if name == "cupy_backends.cuda.api.runtime":
            file = "runtime" + sysconfig.get_config_var("EXT_SUFFIX")
            return importlib.util.spec_from_file_location(name, os.path.join(_home, file))
        if name == "cupy" and os.environ.get("SIMGPU_NOPOOL", "0") not in ("", "0"):
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            spec.loader = _After(spec.loader, lambda m: m.cuda.set_allocator(None))
            return spec
        if name == "cupy.cuda.thrust":
            here = os.path.dirname(os.path.abspath(__file__))
            return importlib.util.spec_from_file_location(name, os.path.join(here, "simgpu_thrust.py"))
        change = {"cupy.random._generator_api": _disarm_generator, "cupy.cuda.cub": _disarm_cub}.get(name)
        if change:
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            spec.loader = _After(spec.loader, change)
            return spec
        return None


class _After(importlib.abc.Loader):
    """Loads a module, then patches it."""

    def __init__(self, loader, change):
        self.loader = loader
        self.change = change

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        self.change(module)


def _refuse(what):
    def refuse(*args, **kwargs):
        raise NotImplementedError(f"simgpu: {what}; its kernels are precompiled for a real GPU")

    return refuse


def _disarm_generator(module):
    no = _refuse("cupy.random.Generator (default_rng) cannot run on the simulated device, cupy.random.RandomState can")
    module.init_curand = module.random_raw = no
    module.Generator = type("Generator", (), {"__init__": no})


def _disarm_cub(module):
    for name in (
        "device_reduce",
        "device_segmented_reduce",
        "device_scan",
        "device_histogram",
        "cub_reduction",
        "cub_scan",
        "cub_histogram",
    ):
        setattr(module, name, _refuse(f"cupy.cuda.cub.{name} cannot run on the simulated device"))


def _install():
    # The names CuPy asks for, so that no real CUDA library is picked up.
    for n in sorted(os.listdir(_home)):
        if ".so." in n:
            ctypes.CDLL(os.path.join(_home, n), mode=ctypes.RTLD_GLOBAL)
    if "SIMGPU_BLAS" not in os.environ:  # NumPy's OpenBLAS computes the GEMMs
        spec = importlib.machinery.PathFinder.find_spec("numpy")
        if spec and spec.origin:
            libs = os.path.dirname(os.path.dirname(spec.origin)) + "/numpy.libs"
            for f in sorted(os.listdir(libs) if os.path.isdir(libs) else ()):
                if f.startswith("libscipy_openblas64_"):
                    os.environ["SIMGPU_BLAS"] = os.path.join(libs, f)
    sys.meta_path.insert(0, _Finder())


if _home and os.path.exists(os.path.join(_home, "done")):
    _install()

# A sitecustomize hidden by this one still runs.
_dir = os.path.dirname(os.path.abspath(__file__))
for _p in sys.path:
    _f = os.path.join(_p, "sitecustomize.py")
    if os.path.abspath(_p or ".") != _dir and os.path.isfile(_f):
        with open(_f) as _fh:
            exec(compile(_fh.read(), _f, "exec"), {"__name__": "sitecustomize", "__file__": _f})
        break
