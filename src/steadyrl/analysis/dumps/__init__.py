"""Comparison of engine and trainer by token-level dumps of any framework.

read_content -> read_dump -> pair -> compare -> to_text
"""

from steadyrl.analysis.dumps.comparison import Comparison, Verdict, compare, to_text
from steadyrl.analysis.dumps.files import read_content
from steadyrl.analysis.dumps.finding import DumpCause, Finding
from steadyrl.analysis.dumps.formats import FORMAT_NAMES, FORMATS, Format, read_dump
from steadyrl.analysis.dumps.pairing import pair
from steadyrl.analysis.dumps.record import Dump, DumpRow, Pairing
from steadyrl.analysis.dumps.shares import LargeToken, Share

__all__ = [
    "FORMATS",
    "FORMAT_NAMES",
    "Comparison",
    "Dump",
    "DumpCause",
    "DumpRow",
    "Finding",
    "Format",
    "LargeToken",
    "Pairing",
    "Share",
    "Verdict",
    "compare",
    "pair",
    "read_content",
    "read_dump",
    "to_text",
]
