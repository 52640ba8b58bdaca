"""Files from elsewhere: weights and data sets, verified, resumable, offline-friendly."""
