"""Results become tables, score files, figures and pages."""
