"""Add up pytest's reports (JUnit XML): count.py [--all-of N] REPORT...

Prints one line "N passed, N failed, N skipped". With --all-of it ends with 1 unless N tests or more have passed: a
test that was skipped, deselected or lost has not.
"""

import argparse
import sys
import xml.etree.ElementTree as ElementTree

arguments = argparse.ArgumentParser()
arguments.add_argument("--all-of", type=int, default=0)
arguments.add_argument("reports", nargs="*")
options = arguments.parse_args()

passed = failed = skipped = 0
for report in options.reports:
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        left_out = int(suite.get("skipped", 0))
        passed += int(suite.get("tests", 0)) - bad - left_out
        failed += bad
        skipped += left_out
print(f"{passed} passed, {failed} failed, {skipped} skipped")
if passed < options.all_of:
    sys.exit(f"error: {options.all_of} tests should have passed")
