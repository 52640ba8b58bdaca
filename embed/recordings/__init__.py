"""Recordings on disk: which clips there are, and how a file becomes a waveform.

`clips` finds the clips of a data set, `new_clips` those that are to be judged; `layouts`, `plain`,
`folders` and `manifest` understand their names, `dataset` has what they find. `audio` loads a
clip, `windows` cuts a long recording or a stream; `decoding`, `streams`, `sound` and
`preprocessing` are their steps. `demo` writes recordings to try it all on.
"""
