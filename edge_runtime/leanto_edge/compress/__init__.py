"""Compresses a model into an artifact, W ≈ Q + L·R: codes of 1 to 4 bits or int8, chosen by LDLQ under measured Hessians, low-rank
factors where they pay, and a budget of bytes shared out by measured divergence. Here too: adaptation on the device.

    report = compress("path/to/model", "out", bits=2.5, calibration="text.txt")

Needs torch and transformers (the `compress` extra); nothing else in leanto_edge imports this package.
"""

from __future__ import annotations

from leanto_edge.compress.adaptation import Adaptation, adapt
from leanto_edge.compress.dequantize import dequantized_model
from leanto_edge.compress.pipeline import compress
from leanto_edge.compress.progress import Progress, Stage
from leanto_edge.compress.report import MatrixReport, Quality, Report

__all__ = ["Adaptation", "MatrixReport", "Progress", "Quality", "Report", "Stage", "adapt", "compress", "dequantized_model"]
