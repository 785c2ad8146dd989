"""Pictures of decisions: curves and reliability from outcomes, times and energy from logs, as SVG, PNG and one page that stands alone."""

from leanto.report.outcomes import Outcomes, calibration_page, held_out
from leanto.report.page import Report, write
from leanto.report.replayed import replay_page

__all__ = ["Outcomes", "Report", "calibration_page", "held_out", "replay_page", "write"]
