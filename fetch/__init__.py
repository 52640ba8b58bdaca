"""Files from elsewhere: weights and data sets, fetched once, resumed, verified, found offline.

`weights` has the table of published weights and finds a checkpoint, `sources` are the three kinds
of places that weights come from, `hub` finds any audio model of the Hugging Face hub, `reading`
reads checkpoints without running anything in them, `datasets` fetches recordings by name.
"""
