import numpy as np
import pytest

from camera_plugins.simulator.params import GeneratorParams
from camera_plugins.simulator.patterns import draw, nb_images
from camera_plugins.simulator.view import view_of
from lima2_core.camera.params import ImageParams
from lima2_core.data.frame import PIXEL_TYPES
from lima2_core.errors import ParamError

ROWS, COLS = 40, 60


def drawn(generator=None, img=None, count=1):
    """The images of a small detector.

    Shapes: (images, bands, rows, cols).
    """
    params = GeneratorParams.from_tree(generator or {})
    view = view_of(ImageParams.from_tree(img or {}), ROWS, COLS)
    shape = (count, params.nb_channels, view.roi.rows, view.roi.cols)
    images = np.zeros(shape, PIXEL_TYPES[params.pixel_type])
    draw(params, view, (ROWS, COLS), list(images))
    return images


def gauss(*peaks, grow_factor=0.0, **rest):
    keys = ("x0", "y0", "fwhm", "max")
    peaks = [dict(zip(keys, peak, strict=True)) for peak in peaks]
    return {"gauss": {"peaks": peaks, "grow_factor": grow_factor}, **rest}


def test_a_peak_has_its_place_height_and_width():
    (((image,),)) = drawn(gauss((20, 10, 8, 100), pixel_type="gray64f"))

    assert image[10, 20] == pytest.approx(100)
    assert np.unravel_index(image.argmax(), image.shape) == (10, 20)
    assert image[10, 24] == image[14, 20] == pytest.approx(50)
    assert image[14, 24] == pytest.approx(25)


def test_peaks_add_up():
    one, other = (20, 10, 8, 100), (30, 22, 5, 60)

    both = drawn(gauss(one, other, pixel_type="gray64f"))

    apart = drawn(gauss(one, pixel_type="gray64f")) + drawn(gauss(other, pixel_type="gray64f"))
    np.testing.assert_allclose(both, apart)


def test_without_peaks_the_image_is_dark():
    assert not drawn(gauss()).any()


def test_images_grow_by_the_factor():
    images = drawn(gauss((20, 10, 8, 100), grow_factor=0.1), count=16)

    assert images[:, 0, 10, 20].tolist() == [100 + 10 * n for n in range(16)]


@pytest.mark.parametrize("pixel_type", PIXEL_TYPES)
def test_values_are_rounded_and_clipped_to_the_pixel_type(pixel_type):
    dtype = PIXEL_TYPES[pixel_type]
    (((image,),)) = drawn(gauss((20, 10, 8, 1e11), (50, 30, 4, -1e11), pixel_type=pixel_type))

    assert image.dtype == dtype
    if dtype.kind == "f":
        assert image[10, 20] == pytest.approx(1e11)
    else:
        assert image[10, 20] == np.iinfo(dtype).max
        assert image[30, 50] == np.iinfo(dtype).min


def test_values_are_rounded_to_the_nearest():
    (((image,),)) = drawn(gauss((20, 10, 8, 7.6), pixel_type="gray8"))

    assert image[10, 20] == 8


def test_bands_differ():
    ((first, second, third),) = drawn(gauss((20, 10, 8, 90), nb_channels=3))

    assert (first[10, 20], second[10, 20], third[10, 20]) == (90, 60, 30)


@pytest.mark.parametrize("kind", ["diffraction", "spiral"])
def test_the_other_patterns_are_neither_flat_nor_random(kind):
    generator = {"type": kind, "diffraction": {"x0": 30.0, "y0": 20.0}}

    image = drawn(generator)

    assert len(np.unique(image)) > 50
    np.testing.assert_array_equal(image, drawn(generator))


def test_the_diffraction_pattern_follows_its_source():
    generator = {
        "type": "diffraction",
        "pixel_type": "gray32f",
        "diffraction": {
            "x0": 10.0,
            "y0": 10.0,
            "source_pos_x": 5.0,
            "source_pos_y": 2.0,
            "source_speed_x": 3.0,
            "source_speed_y": 1.0,
        },
    }

    images = drawn(generator, count=4)

    brightest = [np.unravel_index(image[0].argmax(), (ROWS, COLS)) for image in images]
    assert brightest == [(12 + n, 15 + 3 * n) for n in range(4)]


@pytest.mark.parametrize(
    ("generator", "count"),
    [
        ({}, 1),
        (gauss((1, 1, 1, 1), grow_factor=0.1), 16),
        (gauss(grow_factor=0.1), 1),
        ({"type": "spiral"}, 1),
        ({"type": "diffraction"}, 1),
        ({"type": "diffraction", "diffraction": {"source_speed_y": 1.0}}, 16),
    ],
)
def test_images_that_are_all_the_same_count_once(generator, count):
    assert nb_images(GeneratorParams.from_tree(generator), 16) == count


GENERATORS = [
    gauss((20, 10, 8, 1000), (45, 30, 6, 500), pixel_type="gray32f"),
    {"type": "diffraction", "diffraction": {"x0": 30.0, "y0": 20.0}, "pixel_type": "gray32f"},
    {"type": "spiral", "pixel_type": "gray32f"},
]


@pytest.mark.parametrize("generator", GENERATORS)
def test_binning_adds_pixels_up(generator):
    whole = drawn(generator)[0, 0]

    binned = drawn(generator, {"binning": {"x": 7, "y": 3}})[0, 0]

    assert binned.shape == (13, 8)
    expected = whole[:39, :56].reshape(13, 3, 8, 7).sum((1, 3))
    np.testing.assert_allclose(binned, expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize(
    ("flip", "turn"),
    [
        ("none", lambda a: a),
        ("up_down", lambda a: a[::-1]),
        ("left_right", lambda a: a[:, ::-1]),
    ],
)
def test_a_region_is_taken_after_binning_and_then_flipped(generator, flip, turn):
    binned = drawn(generator, {"binning": {"x": 2, "y": 2}})[0, 0]
    roi = {"topleft": {"x": 4, "y": 3}, "dimensions": {"x": 9, "y": 7}}

    image = drawn(generator, {"binning": {"x": 2, "y": 2}, "roi": roi, "flip": flip})[0, 0]

    np.testing.assert_allclose(image, turn(binned[3:10, 4:13]), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("flip", ["none", "left_right", "up_down"])
def test_the_affine_map_leads_back_to_the_detector(flip):
    img = {
        "binning": {"x": 3, "y": 1},
        "roi": {"topleft": {"x": 2, "y": 5}, "dimensions": {"x": 15, "y": 30}},
        "flip": flip,
    }
    view = view_of(ImageParams.from_tree(img), ROWS, COLS)
    image = drawn(gauss((25, 18, 2, 100), pixel_type="gray32f"), img)[0, 0]

    row, col = np.unravel_index(image.argmax(), image.shape)

    assert view.affine.apply(float(row), float(col)) == pytest.approx((18, 25))


@pytest.mark.parametrize(
    ("img", "path"),
    [
        ({"roi": {"dimensions": {"x": 61, "y": 40}}}, "img.roi.dimensions"),
        ({"roi": {"topleft": {"x": 1}, "dimensions": {"x": 60, "y": 40}}}, "img.roi.dimensions"),
        ({"roi": {"topleft": {"x": 1, "y": 1}}}, "img.roi.dimensions"),
        ({"roi": {"dimensions": {"x": 10}}}, "img.roi.dimensions"),
        ({"roi": {"dimensions": {"x": 60, "y": 40}}, "binning": {"x": 2}}, "img.roi.dimensions"),
        ({"binning": {"x": 61}}, "img.binning.x"),
        ({"binning": {"y": 41}}, "img.binning.y"),
    ],
)
def test_what_leaves_the_detector_is_refused(img, path):
    with pytest.raises(ParamError) as refused:
        view_of(ImageParams.from_tree(img), ROWS, COLS)

    assert refused.value.path == path
