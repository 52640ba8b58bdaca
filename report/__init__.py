"""Results become tables, score files, figures and pages.

This page is the menu; each entry is loaded on first use.

    results_table, leaderboard_table      for a terminal
    write_results, write_ranking          results.csv, results.json, ranking.csv
    write_scores, write_decisions         DCASE's score and decision files
    evaluate_score_files                  AUC and pAUC of such files
    leaderboard_entry, over_seeds, leaderboard_csv    the combinations of a grid
    Run, write_report, write_leaderboard  report.html, leaderboard.html
    draw_scores, draw_roc                 scores.png, roc.png
    read_csv                              reads the CSV files back
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from report.csv_files import read_csv
    from report.evaluation import evaluate_score_files
    from report.figures import draw_roc, draw_scores
    from report.leaderboard import leaderboard_csv, leaderboard_entry, over_seeds
    from report.leaderboard_page import write_leaderboard
    from report.page import Run, write_report
    from report.result_files import write_ranking, write_results
    from report.score_files import write_decisions, write_scores
    from report.tables import leaderboard_table, results_table

_HOMES = {
    "Run": "report.page",
    "draw_roc": "report.figures",
    "draw_scores": "report.figures",
    "evaluate_score_files": "report.evaluation",
    "leaderboard_csv": "report.leaderboard",
    "leaderboard_entry": "report.leaderboard",
    "leaderboard_table": "report.tables",
    "over_seeds": "report.leaderboard",
    "read_csv": "report.csv_files",
    "results_table": "report.tables",
    "write_decisions": "report.score_files",
    "write_leaderboard": "report.leaderboard_page",
    "write_ranking": "report.result_files",
    "write_report": "report.page",
    "write_results": "report.result_files",
    "write_scores": "report.score_files",
}

__all__ = [
    "Run",
    "draw_roc",
    "draw_scores",
    "evaluate_score_files",
    "leaderboard_csv",
    "leaderboard_entry",
    "leaderboard_table",
    "over_seeds",
    "read_csv",
    "results_table",
    "write_decisions",
    "write_leaderboard",
    "write_ranking",
    "write_report",
    "write_results",
    "write_scores",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'report' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
