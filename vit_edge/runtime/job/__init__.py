"""Folders of images as a job: rows written as they are made, resumed after a kill, cut in shards, merged."""
