"""A folder of images with Spark's `mapInPandas`: python classify_on_spark.py BUNDLE FOLDER [WORKERS]."""

import sys
from pathlib import Path

from pyspark.sql import SparkSession

from vit_edge import BatchClassifier

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
IMAGES = "id long, image string"
ANSWERS = f"{IMAGES}, label string, score double, index long, error string"


def main(bundle: str, folder: str, workers: str = "2") -> None:
    """Print the lines in the order of the names."""
    paths = sorted(str(path) for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    spark = SparkSession.builder.master(f"local[{workers}]").getOrCreate()
    images = spark.createDataFrame(list(enumerate(paths)), IMAGES).repartition(4 * int(workers))
    classify = BatchClassifier(Path(bundle).absolute())
    for row in images.mapInPandas(classify.over, ANSWERS).orderBy("id").collect():
        print(f"{row.image}: {row.error or f'{row.label} {row.score:.2f}'}")
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
