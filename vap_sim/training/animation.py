"""Pictures and films for TensorBoard; films as animated PNG, which it shows and which needs no further library."""

from __future__ import annotations

import io
from typing import Any

import av
from torch import Tensor

from vap_sim.errors import InvalidInput


def show(writer: Any, name: str, picture: Tensor, step: int, *, frame_rate: int = 8) -> None:
    """Log a picture (3, H, W) or a film (T, 3, H, W), uint8 RGB. Raises InvalidInput."""
    if picture.ndim == 3:
        writer.add_image(name, picture, step)
        return
    from tensorboard.compat.proto.summary_pb2 import Summary

    image = Summary.Image(
        height=picture.shape[-2],
        width=picture.shape[-1],
        colorspace=3,
        encoded_image_string=animated_png(picture, frame_rate),
    )
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)


def animated_png(film: Tensor, frame_rate: int = 8) -> bytes:
    """A film (T, 3, H, W) uint8 RGB as an animated PNG that repeats; lossless. Raises InvalidInput."""
    if film.ndim != 4 or film.shape[1] != 3 or str(film.dtype) != "torch.uint8" or not film.shape[0]:
        raise InvalidInput("film to show", f"{film.dtype} {tuple(film.shape)}", "torch.uint8 (T, 3, H, W)")
    content = io.BytesIO()
    with av.open(content, "w", format="apng", options={"plays": "0"}) as container:
        stream: Any = container.add_stream("apng", rate=frame_rate)
        stream.width, stream.height, stream.pix_fmt = film.shape[3], film.shape[2], "rgb24"
        for picture in film.permute(0, 2, 3, 1).contiguous().cpu().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return content.getvalue()
