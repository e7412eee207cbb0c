# /// script
# requires-python = ">=3.11"
# dependencies = ["audmodel>=2.0", "pillow>=10.4"]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Resize images on all cores.

``resize_images`` is an ordinary function over a list of files.
It needs no change to run on several processes.

Run it with ``uv run examples/image_resizing.py``.
The images are made for the occasion,
in a temporary folder that is removed in the end.

"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

from PIL import Image

from audmodel.parallel import MultiWorker


def resize_images(
    image_file_paths: list[str],
    out_dir: str,
    image_size: tuple[int, int],
) -> None:
    for image_path in image_file_paths:
        im: Image.Image = Image.open(image_path)
        im = im.resize(image_size)
        im.save(os.path.join(out_dir, os.path.basename(image_path)))


def make_images(folder: str, number: int) -> list[str]:
    paths = []
    for index in range(number):
        path = os.path.join(folder, f"{index:05}.jpg")
        shade = index % 256
        Image.linear_gradient("L").resize((800, 600)).convert("RGB").point(
            [(level + shade) % 256 for level in range(256)] * 3
        ).save(path)
        paths.append(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description="Resize images on all cores.")
    parser.add_argument("--images", type=int, default=101)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    image_size = (224, 224)

    with tempfile.TemporaryDirectory() as root:
        folders = [os.path.join(root, name) for name in ("images", "one", "many")]
        images, one, many = folders
        for folder in folders:
            os.mkdir(folder)
        images_paths = make_images(images, arguments.images)

        start = time.perf_counter()
        resize_images(images_paths, one, image_size)
        print(f"one process:   {time.perf_counter() - start:5.2f} s")

        start = time.perf_counter()
        with MultiWorker(
            resize_images,
            n_processes=arguments.processes,
        ) as parallel_resize_images:
            parallel_resize_images(images_paths, many, image_size)
        seconds = time.perf_counter() - start
        print(f"{arguments.processes} processes:   {seconds:5.2f} s")

        assert os.listdir(one), "nothing was resized"
        for name in os.listdir(one):
            with (
                open(os.path.join(one, name), "rb") as expected,
                open(os.path.join(many, name), "rb") as file,
            ):
                assert file.read() == expected.read(), name
        print(f"{len(os.listdir(many))} images, each the same as with one process")


if __name__ == "__main__":
    main()
