"""One sentence for each pattern of `grammar.FAMILIES`, in its order, with what it asks."""

from spatialevo_jax.environment.wordings import Slots

LABELS = ("bed", "tv", "lamp", "chair", "trash can", "bin", "waste_basket", "wall", "plant", "sofa")
FOUR = ("bed", "tv", "lamp", "chair")
FAR = Slots(("bed", "trash can"))
NEAREST = Slots(("bed", "tv", "trash can", "chair"))
STAND = Slots(("bed", "tv", "lamp"))
BED, CAN = Slots(("bed",)), Slots(("trash can",))
FROM_BED = Slots(("bed", "tv"))
ONE_TWO, TWO_ONE = Slots((), (1, 2)), Slots((), (2, 1))
IN_SECOND = Slots(("trash can",), (2,))
CLOSEST = "Measuring from the closest point of each object, "

FROM_CAMERA = (
    ("In which direction is the trash can relative to me when I'm taking Image 2?", IN_SECOND),
    ("Where is the trash can relative to the camera in the second image?", IN_SECOND),
    ("Which way is the trash can relative to the Image two camera?", IN_SECOND),
    ("On which side is the trash can when you are taking Image 2?", IN_SECOND),
    ("When taking the second photo, on which side of me is the trash can?", IN_SECOND),
    ("As seen from the camera of Image 2, on which side is the trash can?", IN_SECOND),
    ("Which way is the trash can from the Image 2 camera?", IN_SECOND),
    ("In which direction from the camera of Image 2 is the trash can?", IN_SECOND),
    ("In Image 2, where is the trash can relative to the camera?", IN_SECOND),
)

SENTENCES: dict[str, tuple[tuple[str, Slots], ...]] = {
    "object_counting": (
        ("How many trash can(s) are there in this room?", CAN),
        ("Count them all: how many trash cans does the flat contain?", CAN),
        ("Count the trash cans in the whole scene, please?", CAN),
        ("What is the total number of trash can instances here?", CAN),
    ),
    "absolute_distance": (
        (f"{CLOSEST}what is the direct distance between the bed and the trash can (in m)?", FAR),
        ("How far apart are the bed and the trash can, in metres?", FAR),
        ("How far away is the bed from the trash can?", FAR),
        ("How far is it from the bed to the trash can?", FAR),
        ("How many meters is it from the bed to the trash can?", FAR),
        ("How many metres separate the bed from the trash can?", FAR),
        ("What gap is there between the bed and the trash can?", FAR),
        ("How many metres away is the bed from the trash can in this room?", FAR),
        ("How close is the bed to the trash can, measured in meters?", FAR),
    ),
    "relative_distance": (
        (
            f"{CLOSEST}which of these objects (tv, trash can, chair) is the closest to the bed?",
            NEAREST,
        ),
        ("Which of these objects, tv, trash can, or chair, is nearest to the bed?", NEAREST),
        ("Of these (tv, trash can, chair), which one lies nearest to the bed?", NEAREST),
        ("Among the tv, the trash can and the chair, which one is nearest to the bed?", NEAREST),
        ("Which of the tv, the trash can, and the chair is nearest to the bed?", NEAREST),
        ("Which object is closest to the bed: the tv, the trash can or the chair?", NEAREST),
        ("Is tv, trash can, or chair the nearest object to the bed?", NEAREST),
        ("Is the tv or the lamp closer to the bed?", STAND),
        ("Which object is the bed closest to: the tv, the trash can or the chair?", NEAREST),
    ),
    "relative_direction_hard": (
        (
            "If you are standing at the bed and facing the tv, in which direction is the lamp "
            "relative to you?",
            STAND,
        ),
        ("Standing near the bed, looking at the tv, where is the lamp relative to me?", STAND),
        (
            "If I am standing by the bed and facing the tv, is the lamp to my front-left, "
            "front-right, back-left, or back-right?\nThe directions refer to the quadrants of a "
            "Cartesian plane (if I am standing at the origin and facing along the positive "
            "y-axis).",
            Slots(STAND.labels, difficulty="hard"),
        ),
        (
            "If I am standing by the bed and facing the tv, is the lamp to my left, right, or "
            "back?\nAn object is to my back if I would have to turn at least 135 degrees in order "
            "to face it.",
            Slots(STAND.labels, difficulty="medium"),
        ),
        (
            "If I am standing by the bed and facing the tv, is the lamp to the left or the right "
            "of the tv?",
            Slots(STAND.labels, difficulty="easy"),
        ),
        ("Where is the lamp if I stand near the bed and look at the tv?", STAND),
    ),
    "single_image_relative_direction": (
        ("In this image, where is the tv relative to the bed?", FROM_BED),
        ("What is the position of the tv with respect to the bed in this image?", FROM_BED),
        ("Which direction is the tv from the bed?", FROM_BED),
        ("As seen from the bed, in which direction lies the tv?", FROM_BED),
        ("Compared with the bed, on which side is the tv?", FROM_BED),
        ("On which side of the bed is the tv in this picture?", FROM_BED),
    ),
    "distance_cam_obj": (
        ("How far away from the camera is the bed in meters?", BED),
        ("How far is the bed from the camera in this image, in meters?", BED),
        ("What is the nearest distance from the camera to the bed (in meters)?", BED),
        ("What is the distance between the camera and the bed?", BED),
        ("How many meters away is the bed?", BED),
        ("How many meters away is the bed from the camera?", BED),
        ("What is the distance of the bed from the camera when this photo was taken?", BED),
        ("How close is the camera to the bed, in metres?", BED),
    ),
    "depth_order_obj_obj": (
        ("Closer to the lens: the bed or the tv?", FROM_BED),
        ("Between the bed and the tv, which one is nearer to the camera?", FROM_BED),
        ("Is the bed in front of the tv as seen by the camera?", FROM_BED),
        ("Which of the bed and the tv is nearer to the viewer?", FROM_BED),
        ("In this photo, is the camera closer to the bed or to the tv?", FROM_BED),
    ),
    "position_cam_cam": (
        ("When you took Image one, where was the camera for Image 2, relative to you?", ONE_TWO),
        ("Where was the camera for the first image when you took the second image?", TWO_ONE),
        ("Relative to the Image 2 camera, in which direction is the Image 1 camera?", TWO_ONE),
        ("Where is the Image 2 camera relative to the Image 1 camera?", ONE_TWO),
        ("Where was the second picture taken relative to the first picture?", ONE_TWO),
        ("What is the position of the camera in view 1 with respect to that of view 2?", TWO_ONE),
        ("In which direction from the camera of Image 1 is Image 2's camera?", ONE_TWO),
    ),
    "elevation_cam_cam": (
        ("Compared with the camera in Image 2, is the camera in Image 1 higher or lower?", TWO_ONE),
        ("Was image 2 shot from higher up than image 1?", ONE_TWO),
        ("When you took Image 1, where was the camera for Image 2, higher or lower?", ONE_TWO),
        ("Did the camera move up or down from Image 2 to Image 1?", TWO_ONE),
        ("Is the camera higher or lower in the first frame than in the second?", TWO_ONE),
    ),
    "motion_camera": (
        ("Based on the continuous images, in which direction is the camera rotating?", Slots()),
        ("Based on the continuous images, what is the camera motion direction?", Slots()),
        ("What was the movement direction of the camera?", Slots()),
        ("How did the camera move from the first photo to the second photo?", ONE_TWO),
        ("Which way did I move the camera?", Slots()),
        ("Between the two pictures, how did the camera move?", Slots()),
    ),
    "visibility_compare": (
        ("For the trash can, which image shows it more clearly?", CAN),
        ("Considering the trash can, in which image is it more visible?", CAN),
        ("Which image shows the trash can better?", CAN),
        ("In which picture is the trash can more clearly visible?", CAN),
        ("Which image has the clearer view of the trash can?", CAN),
        ("Does Image 1 or Image 2 give the better view of the trash can?", CAN),
        ("Is the trash can more visible in the first or in the second photo?", CAN),
        ("In which of the two images can you see the trash can best?", CAN),
    ),
    "position_cam_obj": FROM_CAMERA,
    "position_cam_reg": (
        *FROM_CAMERA[:-1],
        (
            "In Image 2, which way is the sofa area relative to the camera?",
            Slots(("sofa area",), (2,)),
        ),
    ),
    "attribute_measurement": (
        ("Between the bed and the tv, which one has the larger longest dimension?", FROM_BED),
        ("Between the bed and the tv, which one is longer?", FROM_BED),
        (
            "Which object is longer in Image 2, the bed or the tv?",
            Slots(("bed", "tv"), bound_image=2),
        ),
        ("Which object has the longest side: the bed or the tv?", FROM_BED),
        ("Is the bed longer than the tv?", FROM_BED),
        ("Is the bed or the tv bigger?", FROM_BED),
        ("Does the bed have a longer longest side than the tv?", FROM_BED),
    ),
    "object_size": (
        (
            "What is the length of the longest dimension (length, width, or height) of the bed, "
            "measured in centimeters?",
            BED,
        ),
        ("What is the size of the bed in centimetres?", BED),
        ("How long is the largest side of the bed, in cm?", BED),
        ("How long is the bed at its longest side, in cm?", BED),
        ("How big is the bed?", BED),
        ("How many centimetres does the longest edge of the bed measure?", BED),
        ("What is the length of the bed's longest side (cm)?", BED),
    ),
    "room_size": (
        (
            "What is the size of this room (in square meters)? \nIf multiple rooms are shown, "
            "estimate the size of the combined space.",
            Slots(),
        ),
        ("How large is the floor area here?", Slots()),
        ("Room size", Slots()),
        ("How many square meters does the flat have?", Slots()),
    ),
}
