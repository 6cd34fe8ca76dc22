"""Images to the input of a graph, as its manifest declares."""

import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from modules.errors import Invalid
from modules.manifest import ImageInput
from modules.scoring.graphs.shared_run import Feeds
from modules.scoring.graphs.tensors import Array, shown
from modules.scoring.runtime import BadInput, Buffer, Tensor

# A small file can hold a huge image: it is refused by its header, before it is unpacked.
MAX_PIXELS: Final = 64_000_000
FORMATS: Final = ("JPEG", "PNG")
_TO_BYTE: Final = 65_535 / 255


def check(image: ImageInput, inputs: Sequence[Tensor]) -> None:
    """Accept a declaration that goes with the graph.

    Raises:
        Invalid: the graph has several inputs, or another shape.
    """
    if len(inputs) != 1 or not _goes(image, inputs[0]):
        takes = ", ".join(f"{one.name} {shown(one)}" for one in inputs)
        raise Invalid(
            f"images of [1, {', '.join(map(str, _shape(image)))}] are declared, but the graph takes {takes}",
            element="serve.image", remedy="declare the graph's own layout, channels and size",
        )  # fmt: skip


def feeds(body: Buffer, image: ImageInput, inputs: Sequence[Tensor]) -> Feeds:
    """The graph's only input from a JPEG or PNG.

    Raises:
        BadInput: it is neither, is cut short, or has too many pixels.
    """
    # Needed by few modules, and as large as the rest of this server.
    from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: PLC0415

    try:
        with Image.open(io.BytesIO(body), formats=FORMATS) as found:
            if found.width * found.height > MAX_PIXELS:
                raise BadInput(f"{found.width} x {found.height} pixels are more than {MAX_PIXELS}", element="body")
            mode = "L" if image.channels == "L" else "RGB"
            upright = _resized(_of_bytes(ImageOps.exif_transpose(found)).convert(mode), image)
    except UnidentifiedImageError as error:
        # Its text names the address in memory of what was read.
        raise BadInput("expected a JPEG or PNG image, got something else", element="body") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"expected a JPEG or PNG image, got {error}", element="body") from error
    pixels = np.asarray(upright)
    pixels = pixels[..., np.newaxis] if image.channels == "L" else pixels
    return {inputs[0].name: _values(pixels, image, inputs[0])}


def _of_bytes(found: Any) -> Any:
    """A picture with 8 bits a value: grey ones of 16 bits are scaled, where Pillow would cut what is above 255."""
    from PIL import Image  # noqa: PLC0415 - as above

    if not found.mode.startswith("I"):
        return found
    return Image.fromarray((np.asarray(found) / _TO_BYTE).round().clip(0, 255).astype(np.uint8))


def _resized(found: Any, image: ImageInput) -> Any:
    from PIL import Image, ImageOps  # noqa: PLC0415 - as above

    size = (image.width, image.height)
    if image.resize == "crop":
        return ImageOps.fit(found, size, Image.Resampling.BILINEAR)
    if image.resize == "pad":
        return ImageOps.pad(found, size, Image.Resampling.BILINEAR)
    return found.resize(size, Image.Resampling.BILINEAR)


def _values(pixels: Array, image: ImageInput, tensor: Tensor) -> Array:
    if image.channels == "BGR":
        pixels = pixels[..., ::-1]
    if np.dtype(tensor.dtype).kind == "f":
        mean, std = np.array(image.mean, np.float32), np.array(image.std, np.float32)
        pixels = (pixels * np.float32(image.scale) - mean) / std
    if image.layout == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[np.newaxis], tensor.dtype)


def _shape(image: ImageInput) -> tuple[int, int, int]:
    channels = 1 if image.channels == "L" else 3
    if image.layout == "NCHW":
        return channels, image.height, image.width
    return image.height, image.width, channels


def _goes(image: ImageInput, tensor: Tensor) -> bool:
    if tensor.dtype not in {"float16", "float32", "float64", "uint8"} or len(tensor.shape) != 4:  # noqa: PLR2004 - a batch of images
        return False
    pairs = zip((1, *_shape(image)), tensor.shape, strict=True)
    return all(not isinstance(want, int) or want == have for have, want in pairs)
