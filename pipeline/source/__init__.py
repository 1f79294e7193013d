"""Where the bins come from: drawn ones, a folder, or a bucket."""

from pipeline.source.fill import PreparedSource, check_source, prepare_source

__all__ = ["PreparedSource", "check_source", "prepare_source"]
