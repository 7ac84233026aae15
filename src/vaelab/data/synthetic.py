"""A procedural stand-in for Frey Face: one drawn face in a video of changing pose and mood.

It has the form of the real set (1965 frames of 28 x 20 grey values from 8 to 238, a face that
fills the frame and changes smoothly), so that the pipeline and its figures can be exercised
without it. Nothing measured on it says anything about Frey Face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FRAMES = 1965
HEIGHT, WIDTH = 28, 20
DARKEST, BRIGHTEST = 8, 238

Value = float | np.ndarray

_SUPERSAMPLING = 2
_FRAMES_AT_ONCE = 131
# Standard deviation of the camera noise, in grey levels. Without any, a decoder with a learned
# variance would gain likelihood without end.
_NOISE = 3.0


@dataclass(frozen=True)
class _Factors:
    """What varies; one value a frame, shape (N, 1, 1), in [-1, 1] or (eyes, mouth) [0, 1]."""

    turn: np.ndarray
    nod: np.ndarray
    tilt: np.ndarray
    smile: np.ndarray
    mouth_open: np.ndarray
    eyes_closed: np.ndarray
    brows: np.ndarray
    light: np.ndarray
    light_side: np.ndarray

    def __getitem__(self, frames: slice) -> _Factors:
        return _Factors(**{name: values[frames] for name, values in vars(self).items()})


def synthetic_faces() -> np.ndarray:
    """Draw the face set.

    Returns:
        uint8 (1965, 560), each row a 28 x 20 image in row-major order, in the order of time.
        Always the same.
    """
    # RandomState, not default_rng: only its streams are promised never to change.
    rng = np.random.RandomState(0)
    factors = _factors(rng)
    frames = np.concatenate(
        [
            _draw(factors[start : start + _FRAMES_AT_ONCE])
            for start in range(0, FRAMES, _FRAMES_AT_ONCE)
        ]
    )
    frames = frames + rng.normal(0.0, _NOISE, frames.shape)
    contrast = (BRIGHTEST - DARKEST) / (frames.max() - frames.min())
    grey: np.ndarray = np.rint(DARKEST + contrast * (frames - frames.min()))
    return grey.astype(np.uint8).reshape(FRAMES, -1)


def _factors(rng: np.random.RandomState) -> _Factors:
    smile = np.tanh(1.8 * _wander(rng, 45))
    # A mouth opens now and then, rather out of a smile than out of a frown.
    mouth_open = _sigmoid(4.0 * (_wander(rng, 30) + 0.5 * smile - 0.9))
    return _Factors(
        turn=np.tanh(1.1 * _wander(rng, 40)),
        nod=np.tanh(0.8 * _wander(rng, 50)),
        tilt=np.tanh(0.8 * _wander(rng, 70)),
        smile=smile,
        mouth_open=mouth_open,
        eyes_closed=_sigmoid(6.0 * (_wander(rng, 4) - 1.7)),
        brows=np.tanh(1.2 * _wander(rng, 35)),
        light=np.tanh(0.8 * _wander(rng, 120)),
        light_side=np.tanh(0.8 * _wander(rng, 150)),
    )


def _wander(rng: np.random.RandomState, frames: int) -> np.ndarray:
    """Smooth noise of zero mean and unit variance that changes over about `frames` frames."""
    reach = np.arange(-3 * frames, 3 * frames + 1)
    kernel = np.exp(-0.5 * (reach / frames) ** 2)
    path = np.convolve(rng.normal(size=FRAMES + 6 * frames), kernel, mode="valid")
    # Single precision halves the time of drawing, and grey levels need no more.
    standard: np.ndarray = ((path - path.mean()) / path.std()).astype(np.float32)
    return standard[:, None, None]


def _draw(f: _Factors) -> np.ndarray:
    """Grey values, float (N, 28, 20), of the frames with the given factors.

    Coordinates: x from -1 to 1 over the width (right is positive), y from -1.4 to 1.4 over
    the height (down is positive). Every part is a soft-edged mask laid over what is behind.
    """
    s = _SUPERSAMPLING
    x0 = np.linspace(-1, 1, WIDTH * s, dtype=np.float32)[None, None, :]
    y0 = np.linspace(-1.4, 1.4, HEIGHT * s, dtype=np.float32)[None, :, None]
    angle = 0.07 * f.tilt
    # Coordinates that move with the head; features sit in front of its axis, so a turn moves
    # them further than the outline and squeezes the far side.
    x = np.cos(angle) * x0 + np.sin(angle) * y0 - 0.10 * f.turn
    y = np.cos(angle) * y0 - np.sin(angle) * x0 - 0.06 * f.nod
    u = (x - 0.16 * f.turn) * (1.0 + 0.10 * f.turn * x)
    v = y - 0.05 * f.nod

    image = 205.0 + 18.0 * y0 + 0.0 * x  # a bright wall, in every frame
    hair = _ellipse(x, y, 0.0, -0.45, 1.02, 1.15, 0.05)
    image = _lay(image, hair, 38.0)
    neck = _ellipse(x, y, 0.0, 1.55, 0.55, 0.6, 0.08)
    image = _lay(image, neck, 120.0)

    jaw = 1.30 + 0.05 * f.mouth_open
    outline = np.sqrt((x / 0.86) ** 2 + ((y + 0.05) / jaw) ** 2)
    head = _sigmoid((1.0 - outline) / 0.025) * _sigmoid((y + 1.22 + 0.08 * x**2) / 0.04)
    light = 0.22 * f.turn + 0.25 * f.light_side
    skin = 198.0 + 45.0 * light * x - 52.0 * outline**4 - 12.0 * y
    image = _lay(image, head, skin)

    for side in (-1.0, 1.0):
        eye_x, eye_y = 0.36 * side, -0.42
        socket = _ellipse(u, v, eye_x, eye_y - 0.04, 0.27, 0.20, 0.22)
        image = _lay(image, 0.45 * socket, 90.0)
        opening = 0.085 * (1.0 - 0.85 * f.eyes_closed)
        white = _ellipse(u, v, eye_x, eye_y, 0.19, opening, 0.15)
        image = _lay(image, 0.7 * white, 190.0)
        pupil = _ellipse(u, v, eye_x + 0.05 * f.turn, eye_y, 0.10, opening, 0.12)
        image = _lay(image, 0.95 * pupil, 15.0)
        lid = _bar(u, v, eye_x, eye_y - opening, 0.20, 0.03, 0.10)
        image = _lay(image, 0.7 * lid, 60.0)
        brow_y = eye_y - 0.25 - 0.06 * f.brows
        brow = _bar(u, v, eye_x, brow_y, 0.27, 0.055, 0.12 + 0.10 * f.brows)
        image = _lay(image, 0.85 * brow, 45.0)
        nostril = _ellipse(u, v, 0.10 * side, 0.21, 0.065, 0.05, 0.25)
        image = _lay(image, 0.85 * nostril, 40.0)
        fold = _stroke(u - side * (0.30 + 0.08 * f.smile + 0.18 * (v - 0.2)), v, 0.15, 0.75, 0.06)
        image = _lay(image, 0.45 * _sigmoid(5.0 * f.smile) * fold, 105.0)

    shadow = _stroke(u + 0.13 * np.sign(f.light_side), v, -0.35, 0.18, 0.06)
    image = _lay(image, 0.25 * np.abs(f.light_side) * shadow, 80.0)
    ridge = _stroke(u, v, -0.40, 0.12, 0.06)
    image = _lay(image, 0.45 * ridge, 222.0)

    half_width = 0.34 + 0.07 * f.smile - 0.08 * f.mouth_open
    bend = -0.11 * f.smile
    lips = 0.055 + 0.13 * f.mouth_open
    mouth_y = 0.64 + 0.05 * f.mouth_open
    lip = _bar(u, v, 0.0, mouth_y, half_width, lips + 0.06, bend)
    image = _lay(image, 0.55 * lip, 105.0)
    gap = _bar(u, v, 0.0, mouth_y, half_width * 0.92, lips * 0.75, bend)
    image = _lay(image, 0.9 * gap, 38.0)
    teeth = _bar(u, v, 0.0, mouth_y - 0.4 * lips, half_width * 0.75, lips * 0.35, bend)
    image = _lay(image, 0.9 * f.mouth_open * _sigmoid(4.0 * f.smile) * teeth, 215.0)
    chin = _ellipse(u, v, 0.0, 0.93, 0.26, 0.07, 0.30)
    image = _lay(image, 0.35 * chin, 110.0)

    image = image * (1.0 + 0.13 * f.light)
    drawn: np.ndarray = image.reshape(len(image), HEIGHT, s, WIDTH, s).mean(axis=(2, 4))
    return drawn


def _sigmoid(t: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * t))


def _lay(image: np.ndarray, mask: np.ndarray, grey: Value) -> np.ndarray:
    """Blend a grey value over an image where the mask (0 to 1) is."""
    return image + mask * (grey - image)


def _ellipse(
    x: np.ndarray,
    y: np.ndarray,
    centre_x: Value,
    centre_y: Value,
    radius_x: Value,
    radius_y: Value,
    softness: float,
) -> np.ndarray:
    """Mask of a filled ellipse; `softness` is the edge's width as a part of the radius."""
    distance = np.sqrt(((x - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2)
    return _sigmoid((1.0 - distance) / softness)


def _bar(
    x: np.ndarray,
    y: np.ndarray,
    centre_x: Value,
    centre_y: Value,
    half_width: Value,
    half_height: Value,
    bend: Value,
) -> np.ndarray:
    """Mask of a horizontal bar whose ends are lower than its middle by `bend`."""
    along = (x - centre_x) / half_width
    middle = centre_y + bend * (along**2 - 0.4)
    ends = _sigmoid((1.0 - np.abs(along)) / 0.10)
    return ends * np.exp(-(((y - middle) / half_height) ** 2))


def _stroke(
    x: np.ndarray, y: np.ndarray, top: float, bottom: float, half_width: float
) -> np.ndarray:
    """Mask of a vertical stroke at x = 0 from `top` to `bottom`."""
    along = _sigmoid((y - top) / 0.05) * _sigmoid((bottom - y) / 0.05)
    mask: np.ndarray = along * np.exp(-((x / half_width) ** 2))
    return mask
