"""The exact artifact: file format, checks, certification and execution (design section 4, spec 2.13, 2.14).

Light names only: what parses or runs a file (`static`, `engine`, `build`, `certify`) is imported from its module, so
that a verifier that meets no artifact loads neither onnx nor onnxruntime.
"""

from protocol.artifact.header import Header
from protocol.artifact.rounds import RoundInput, RoundOutput, Runner
from protocol.artifact.sandbox import Sandbox
from protocol.artifact.worker import Summary

__all__ = ["Header", "RoundInput", "RoundOutput", "Runner", "Sandbox", "Summary"]
