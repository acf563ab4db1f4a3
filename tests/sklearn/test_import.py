"""Importing gradflow does not import scikit-learn; where that is missing, gradflow.sklearn says what to install."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_gradflow_does_not_import_it() -> None:
    assert run("import sys, gradflow; print('sklearn' in sys.modules)").strip() == "False"


def test_without_it_the_error_says_what_to_install() -> None:
    code = """
import sys
sys.modules["sklearn"] = None
try:
    import gradflow.sklearn
except ImportError as error:
    print(error)
"""
    printed = run(code)
    assert "gradflow.sklearn needs scikit-learn 1.6 or later" in printed
    assert "pip install" in printed
