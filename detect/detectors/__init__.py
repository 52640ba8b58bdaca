"""One file per family of detectors, and what they share; `detect.DETECTORS` is the menu."""
