"""Compilation of the kernels, by NVRTC, into one module for each file and element type."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cupy

from gradflow.backends.kernel_sources import Form, Kernel, block_program_text, form_text
from gradflow.errors import BackendError
from gradflow.installation import pip_install_for_gpu


class KernelModules:
    """The modules of one device.

    Args:
        device: the device.
    """

    def __init__(self, device: cupy.cuda.Device) -> None:
        self._device = device
        self._modules: dict[tuple[Any, Form], Any] = {}

    def compile(self, wanted: Iterable[tuple[Kernel, Form]]) -> None:
        """Compile the modules of kernels that are missing, several at once, since NVRTC does not hold Python's lock.

        Raises:
            BackendError: if one cannot be compiled: the first one that is wanted, for any timing.
        """
        missing = {_key(kernel, form): (kernel, form) for kernel, form in wanted}
        for key in self._modules.keys() & missing.keys():
            del missing[key]
        if len(missing) < 2:
            compiled = [self._compiled(*kernel_and_form) for kernel_and_form in missing.values()]
        else:
            with ThreadPoolExecutor(min(len(missing), os.cpu_count() or 1)) as threads:
                compiled = list(threads.map(lambda kernel_and_form: self._compiled(*kernel_and_form), missing.values()))
        self._modules.update(zip(missing, compiled, strict=True))

    def function(self, kernel: Kernel, form: Form) -> Any:
        """Return a compiled kernel, loaded, since a driver may refuse to load it during a capture."""
        function = self._modules[_key(kernel, form)].get_function(kernel.name)
        _ = function.attributes
        return function

    def run_programs(self, names: tuple[str, ...], real: str) -> Any:
        """Return ``run_programs`` (kernels/block_program.h) for these kernels, in their order."""
        module = self._module(block_program_text(names, real), "a thread block", real)
        function = module.get_function("run_programs")
        _ = function.attributes
        return function

    def _compiled(self, kernel: Kernel, form: Form) -> Any:
        return self._module(form_text(kernel, form), kernel.file.name, form)

    def _module(self, text: str, origin: str, form: object) -> Any:
        module = cupy.RawModule(code=text, options=("--std=c++17",))
        try:
            with self._device:  # the current device is that of a thread
                module.compile()
        except Exception as error:
            raise BackendError(
                f"the CUDA kernels in {origin} could not be compiled for {form}: {error}\n"
                f"If NVRTC or the CUDA headers are missing, install them: {pip_install_for_gpu()}"
            ) from error
        return module


def _key(kernel: Kernel, form: Form) -> tuple[Any, Form]:
    return (kernel.file, form) if form.is_plain else (kernel, form)
