"""Photographs of drawn digits, made up: paper on desks, hard shadows, glare, and what has always worked.

Each maker takes a random generator and the digits' masks, and returns an image with everything at random: tones, light,
grain, angle, pen and place.
"""

import io
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

Random = np.random.Generator
Floats = NDArray[Any]

_STROKES = {
    0: [[(50, 5), (22, 22), (15, 55), (25, 88), (50, 97), (75, 85), (85, 52), (77, 20), (50, 5)]],
    1: [[(48, 3), (50, 50), (52, 97)]],
    2: [[(20, 28), (35, 8), (62, 6), (78, 24), (70, 48), (18, 95)], [(18, 95), (85, 93)]],
    3: [[(22, 14), (50, 4), (75, 20), (66, 40), (42, 48), (72, 58), (80, 78), (55, 96), (20, 86)]],
    4: [[(32, 5), (18, 55), (85, 53)], [(68, 20), (64, 98)]],
    5: [[(78, 6), (30, 8), (26, 44), (60, 42), (78, 64), (62, 92), (20, 90)]],
    6: [[(68, 4), (35, 30), (20, 65), (34, 94), (64, 94), (76, 72), (60, 54), (26, 64)]],
    7: [[(18, 8), (80, 6), (62, 40), (42, 97)]],
    8: [[(74, 16), (50, 4), (28, 20), (40, 42), (70, 62), (72, 86), (48, 97), (26, 84), (34, 60), (64, 40), (74, 16)]],
    9: [[(76, 26), (52, 6), (26, 22), (30, 46), (58, 50), (76, 26), (70, 60), (58, 97)]],
}


def drawn(random: Random, label: int, height: int = 400) -> Floats:
    """Draw a digit's mask, 1 = ink: round strokes of some pen, shaken and slanted."""
    size = height / 100
    pen = random.uniform(0.06, 0.13) * height
    slant, wide = random.uniform(-0.15, 0.25), random.uniform(0.75, 1.05)
    image = Image.new("L", (height * 2, height * 2))
    brush = ImageDraw.Draw(image)
    for stroke in _STROKES[label]:
        points = np.array(stroke) + random.normal(0, 1.5, (len(stroke), 2))
        steps = np.linspace(0, len(points) - 1, 60)
        path = ndimage.gaussian_filter1d(
            np.stack([np.interp(steps, range(len(points)), axis) for axis in points.T], axis=1), 2.5, axis=0
        )
        path[:, 0] = (path[:, 0] - slant * (path[:, 1] - 50)) * wide
        for (x, y), (x2, y2) in itertools.pairwise(path):
            brush.line([v * size + height / 2 for v in (x, y, x2, y2)], fill=255, width=round(pen))
        for x, y in path * size + height / 2:
            brush.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=255)
    return cropped(np.asarray(image, dtype=float) / 255)


def enlarged(digit: NDArray[np.uint8], height: int = 400) -> Floats:
    """Return a digit of 28×28 pixels, light on dark, as a mask of a smooth outline."""
    large = Image.fromarray(digit).resize((height * 14 // 10,) * 2, Image.Resampling.BICUBIC)
    smooth = ndimage.gaussian_filter(np.asarray(large, dtype=float), height / 80)
    return cropped(np.clip((smooth - 100) / 20 + 0.5, 0, 1))


def cropped(mask: Floats) -> Floats:
    """Return a mask without its margins."""
    rows, columns = np.nonzero(mask > 0.5)
    return mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def placed(random: Random, masks: Sequence[Floats], size: tuple[int, int], share: tuple[float, float]) -> Floats:
    """Put masks side by side on a page of (width, height), somewhere, as high as a share of the page."""
    width, height = size
    tall = random.uniform(*share) * min(size)
    gaps = [random.uniform(0.25, 0.7) * tall for _ in masks[1:]] + [0]
    scales = [tall * random.uniform(0.9, 1.1) / mask.shape[0] for mask in masks]
    total = sum(mask.shape[1] * scale for mask, scale in zip(masks, scales, strict=True)) + sum(gaps)
    if total > 0.9 * width:
        shrink = 0.9 * width / total
        scales, gaps, total, tall = [s * shrink for s in scales], [g * shrink for g in gaps], 0.9 * width, tall * shrink
    page = np.zeros((height, width))
    left = random.uniform(0.05 * width, max(0.05 * width, 0.95 * width - total))
    top = random.uniform(0.08 * height, max(0.08 * height, 0.92 * height - 1.1 * tall))
    for mask, scale, gap in zip(masks, scales, gaps, strict=True):
        small = Image.fromarray((mask * 255).astype(np.uint8)).resize(
            (max(2, round(mask.shape[1] * scale)), max(2, round(mask.shape[0] * scale))), Image.Resampling.BOX
        )
        y, x = round(top + random.uniform(-0.04, 0.04) * tall), round(left)
        y = min(max(y, 2), height - small.height - 2)
        x = min(max(x, 2), width - small.width - 2)
        page[y : y + small.height, x : x + small.width] = np.asarray(small) / 255
        left += mask.shape[1] * scale + gap
    return page


def _noise(random: Random, shape: tuple[int, int], smooth: float) -> Floats:
    """Return noise of deviation 1 whose grains are about `smooth` pixels wide."""
    small = random.normal(size=tuple(max(4, round(side / smooth)) for side in shape))
    image = Image.fromarray(small.astype(np.float32)).resize(shape[::-1], Image.Resampling.BICUBIC)
    made = np.asarray(image, dtype=float)
    return made / max(float(made.std()), 1e-9)


def _light(random: Random, shape: tuple[int, int], most: float = 0.15) -> Floats:
    """Return light that falls off smoothly, about 1."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    a, b, c = random.uniform(-most, most, 3)
    return 1 + a * x + b * y + 0.5 * c * (x * x + y * y - 1)


def _size(random: Random) -> tuple[int, int]:
    short = int(random.integers(420, 1000))
    long = round(short * random.uniform(1.0, 1.5))
    return (short, long) if random.random() < 0.6 else (long, short)


def _inked(random: Random, page: Floats, paper: float | None = None) -> Floats:
    """Return the tones of a page: paper, and ink where its mask is 1."""
    paper = random.uniform(185, 250) if paper is None else paper
    return paper + page * (random.uniform(15, 0.5 * paper) - paper)


def _taken(random: Random, tones: Floats, *, jpeg: bool = True) -> Image.Image:
    """Return tones as a camera stores them: blurred, with grain, as JPEG."""
    blurred = ndimage.gaussian_filter(tones, random.uniform(0.4, 1.4))
    noisy = blurred + random.normal(0, random.uniform(0.5, 5), tones.shape)
    image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    if not jpeg:
        return image
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(random.integers(60, 96)))
    return Image.open(io.BytesIO(file.getvalue())).convert("L")


def desk(random: Random, shape: tuple[int, int], below: float) -> Floats:
    """Return a desk's tones, darker than `below`: plain, of wood, chequered, speckled or clouded."""
    tone = random.uniform(20, max(25, below))
    y, x = np.mgrid[: shape[0], : shape[1]]
    kind = random.integers(5)
    if kind == 1:
        angle, period = random.uniform(0, np.pi), random.uniform(15, 80)
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period + _noise(random, shape, 90))
        tones = tone + random.uniform(4, 18) * wave
    elif kind == 2:
        side = random.uniform(25, 90)
        tones = tone * np.where((x // side + y // side) % 2, 1, random.uniform(0.6, 0.95))
    elif kind == 3:
        tones = tone + random.uniform(4, 14) * _noise(random, shape, random.uniform(2, 6))
    elif kind == 4:
        tones = tone + random.uniform(4, 14) * _noise(random, shape, random.uniform(40, 150))
    else:
        tones = np.full(shape, tone)
    return np.clip(tones, 5, below + 20)


def _corners(random: Random, size: tuple[int, int], angle: float, share: tuple[float, float]) -> Floats:
    """Return the four corners (x, y) of a sheet in the frame, turned by some degrees, seen slightly aslant."""
    width, height = size
    aspect = random.uniform(0.65, 1.0)
    high = 1.0
    wide = aspect if random.random() < 0.6 else 1 / aspect
    turn = np.deg2rad(angle)
    box = np.array([(-wide, -high), (wide, -high), (wide, high), (-wide, high)]) / 2
    box *= 1 + random.uniform(-0.04, 0.04, box.shape)
    turned = box @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    scale = random.uniform(*share) * min(width / np.ptp(turned[:, 0]), height / np.ptp(turned[:, 1]))
    turned = turned * scale
    room = np.array([width, height]) - np.ptp(turned, axis=0)
    corner: Floats = turned - turned.min(axis=0) + room * random.uniform(0.15, 0.85, 2)
    return corner


def _on_sheet(random: Random, masks: Sequence[Floats], angle: float, share: tuple[float, float]) -> Image.Image:
    """Return a photograph of a sheet on a desk."""
    size = _size(random)
    shape = size[::-1]
    corners = _corners(random, size, angle, share)
    wide = round(np.linalg.norm(corners[1] - corners[0]))
    high = round(np.linalg.norm(corners[3] - corners[0]))
    page = placed(random, masks, (wide, high), (0.22, 0.6))
    paper = random.uniform(185, 250)
    sheet = _inked(random, page, paper)
    # Pillow asks where in the sheet each pixel of the photograph comes from.
    source = np.array([(0, 0), (wide, 0), (wide, high), (0, high)], dtype=float)
    rows, sides = [], []
    for (x, y), (u, v) in zip(corners, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        sides += [u, v]
    terms = np.linalg.solve(np.array(rows), np.array(sides)).tolist()
    how = Image.Transform.PERSPECTIVE, terms, Image.Resampling.BICUBIC
    seen = np.asarray(Image.fromarray(sheet.astype(np.float32)).transform(size, *how), dtype=float)
    there = np.asarray(Image.new("L", (wide, high), 255).transform(size, *how), dtype=float) / 255
    under = desk(random, shape, paper - random.uniform(50, 110))
    if random.random() < 0.5:  # the sheet's own shadow
        offset = random.uniform(-8, 8, 2)
        under = under * (1 - 0.4 * ndimage.gaussian_filter(ndimage.shift(there, offset, order=1), 4))
    return _taken(random, (there * seen + (1 - there) * under) * _light(random, shape))


def on_desk(random: Random, masks: Sequence[Floats]) -> Image.Image:
    """A whole sheet, nearly straight."""
    return _on_sheet(random, masks, random.uniform(-3, 3), (0.5, 0.9))


def tilted(random: Random, masks: Sequence[Floats]) -> Image.Image:
    """A whole sheet, turned by up to 20 degrees."""
    return _on_sheet(random, masks, random.uniform(5, 20) * random.choice([-1, 1]), (0.6, 0.97))


def cut_off(random: Random, masks: Sequence[Floats]) -> Image.Image:
    """A sheet of which one or two sides are out of sight."""
    size = _size(random)
    page = placed(random, masks, size, (0.2, 0.45))
    rows, columns = np.nonzero(page > 0.5)
    tones = _inked(random, page)
    under = desk(random, page.shape, float(tones.max()) - random.uniform(50, 110))
    y, x = np.mgrid[: page.shape[0], : page.shape[1]]
    there = np.ones(page.shape, bool)
    sides = random.choice(4, int(random.integers(1, 3)), replace=False)
    for side in sides:
        slope = random.uniform(-0.1, 0.1)
        space = (rows.min(), page.shape[0] - rows.max(), columns.min(), page.shape[1] - columns.max())[side]
        edge = space * random.uniform(0.3, 0.75)
        distance = (y + slope * x, page.shape[0] - y + slope * x, x + slope * y, page.shape[1] - x + slope * y)[side]
        there &= distance > edge
    soft = ndimage.gaussian_filter(there.astype(float), 0.8)
    return _taken(random, (soft * tones + (1 - soft) * under) * _light(random, page.shape))


def hard_shadow(random: Random, masks: Sequence[Floats]) -> Image.Image:
    """Paper of which a part lies in the shadow of something with a straight or round edge."""
    size = _size(random)
    page = placed(random, masks, size, (0.25, 0.6))
    y, x = np.mgrid[: size[1], : size[0]]
    at = np.argwhere(page > 0.5)[random.integers(int((page > 0.5).sum()))] + random.normal(0, 0.12 * min(size), 2)
    angle = random.uniform(0, 2 * np.pi)
    distance = (x - at[1]) * np.cos(angle) + (y - at[0]) * np.sin(angle)
    if random.random() < 0.3:
        radius = random.uniform(0.4, 1.2) * max(size)
        centre = at[1] + radius * np.cos(angle), at[0] + radius * np.sin(angle)
        distance = np.hypot(x - centre[0], y - centre[1]) - radius
    soft = random.uniform(1, 25)
    shadow = 1 - random.uniform(0.25, 0.6) / (1 + np.exp(-np.clip(distance / soft, -50, 50)))
    return _taken(random, _inked(random, page) * shadow * _light(random, page.shape))


def glare(random: Random, masks: Sequence[Floats]) -> Image.Image:
    """A whiteboard, or glossy paper, with a lamp's reflection on or beside the digit."""
    size = _size(random)
    page = placed(random, masks, size, (0.25, 0.6))
    tones = _inked(random, page, random.uniform(150, 225))
    y, x = np.mgrid[: size[1], : size[0]]
    at = np.argwhere(page > 0.5)[random.integers(int((page > 0.5).sum()))] + random.normal(0, 0.15 * min(size), 2)
    angle = random.uniform(0, np.pi)
    along = (x - at[1]) * np.cos(angle) + (y - at[0]) * np.sin(angle)
    across = (y - at[0]) * np.cos(angle) - (x - at[1]) * np.sin(angle)
    width = random.uniform(0.03, 0.12) * min(size)
    shine = random.uniform(0.4, 0.95) * np.exp(-0.5 * (across / width) ** 2)
    kind = random.integers(3)
    if kind == 0:  # a spot
        shine = random.uniform(0.4, 0.95) * np.exp(-0.5 * ((across / width) ** 2 + (along / (width * 1.6)) ** 2))
    elif kind == 1:  # a spot in a streak
        shine = np.maximum(0.4 * shine, 0.9 * np.exp(-0.5 * ((across / width) ** 2 + (along / (width * 2)) ** 2)))
    tones = tones * _light(random, page.shape)
    return _taken(random, tones + shine * (255 - tones))


def plain(random: Random, masks: Sequence[Floats]) -> Image.Image:
    """Paper that fills the frame."""
    page = placed(random, masks, _size(random), (0.25, 0.7))
    return _taken(random, _inked(random, page) * _light(random, page.shape, 0.2))


def lined(random: Random, masks: Sequence[Floats]) -> Image.Image:
    """Lined or squared paper, whose lines are fainter than the ink."""
    page = placed(random, masks, _size(random), (0.25, 0.6))
    paper = random.uniform(200, 250)
    tones = np.full(page.shape, paper)
    period, thick = random.uniform(25, 70), random.uniform(1, 2.5)
    y, x = np.mgrid[: page.shape[0], : page.shape[1]]
    lines = y % period < thick
    if random.random() < 0.5:
        lines |= x % period < thick
    tones[lines] -= random.uniform(10, 40)
    ink = random.uniform(15, 80)
    return _taken(random, (tones + page * (ink - tones)) * _light(random, page.shape))


def chalk(random: Random, masks: Sequence[Floats]) -> Image.Image:
    """Light strokes on a dark board."""
    page = placed(random, masks, _size(random), (0.25, 0.6))
    grain = np.clip(0.85 + 0.15 * _noise(random, page.shape, 3), 0, 1)
    board = random.uniform(25, 80)
    return _taken(random, (board + page * grain * (random.uniform(170, 240) - board)) * _light(random, page.shape))


def pencil(random: Random, masks: Sequence[Floats]) -> Image.Image:
    """Faint strokes with the paper's grain in them."""
    page = placed(random, masks, _size(random), (0.3, 0.6))
    page = page * np.clip(0.75 + 0.2 * _noise(random, page.shape, 2), 0, 1)
    paper = random.uniform(200, 250)
    return _taken(random, (paper + page * (random.uniform(0.4, 0.65) * paper - paper)) * _light(random, page.shape))


SINGLE = {
    "plain": plain,
    "lined": lined,
    "chalk": chalk,
    "pencil": pencil,
    "on a desk": on_desk,
    "tilted on a desk": tilted,
    "cut off": cut_off,
    "hard shadow": hard_shadow,
    "glare": glare,
}
