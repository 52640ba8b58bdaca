"""Results become tables, score files, figures and pages.

This page is the menu; each entry is loaded on first use.

    results_table, leaderboard_table      for a terminal
    write_results, write_ranking          results.csv, results.json, ranking.csv
    write_scores, write_decisions         DCASE's score and decision files
    evaluate_score_files                  AUC and pAUC of such files
    leaderboard_entry, over_seeds, leaderboard_csv    the combinations of a grid
    compare, Entrant, write_comparison    runs compared on the clips they share
    read_ranking                          ranking.csv, read back
    Run, write_report, write_leaderboard  report.html, leaderboard.html
    draw_scores, draw_roc                 scores.png, roc.png
    read_csv                              reads the CSV files back
"""

from __future__ import annotations

from ground.menu import loaded_on_use

_HOMES = {
    "Entrant": "report.comparison",
    "Run": "report.page",
    "compare": "report.comparison",
    "draw_roc": "report.figures",
    "draw_scores": "report.figures",
    "evaluate_score_files": "report.evaluation",
    "leaderboard_csv": "report.leaderboard",
    "leaderboard_entry": "report.leaderboard",
    "leaderboard_table": "report.tables",
    "over_seeds": "report.leaderboard",
    "read_csv": "report.csv_files",
    "read_ranking": "report.ranking",
    "results_table": "report.tables",
    "write_comparison": "report.comparison_page",
    "write_decisions": "report.score_files",
    "write_leaderboard": "report.leaderboard_page",
    "write_ranking": "report.result_files",
    "write_report": "report.page",
    "write_results": "report.result_files",
    "write_scores": "report.score_files",
}

__all__ = list(_HOMES)
__getattr__ = loaded_on_use(__name__, _HOMES)
