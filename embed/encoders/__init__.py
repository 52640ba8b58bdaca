"""One file per family of encoders; `embed.ENCODERS` is the menu."""
