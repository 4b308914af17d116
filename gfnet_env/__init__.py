"""Where to look next, as a reinforcement-learning environment.

`import gfnet_env` registers the ids of `gfnet_env.TASKS` with Gymnasium.
"""

from gfnet_env.dynamics import GlanceFocusDynamics
from gfnet_env.env import GlanceFocusEnv
from gfnet_env.episode import EpisodeSpec
from gfnet_env.imagenet import imagenet_task
from gfnet_env.registration import TASKS, make_env, make_vector_env, register_all
from gfnet_env.tasks import (
    Task,
    image_folder_task,
    synthetic_signs_hard_task,
    synthetic_signs_task,
)
from gfnet_env.vector_env import GlanceFocusVectorEnv
from gfnet_env.wrappers import GridAction, VectorGridAction

__all__ = [
    "TASKS",
    "EpisodeSpec",
    "GlanceFocusDynamics",
    "GlanceFocusEnv",
    "GlanceFocusVectorEnv",
    "GridAction",
    "Task",
    "VectorGridAction",
    "image_folder_task",
    "imagenet_task",
    "make_env",
    "make_vector_env",
    "register_all",
    "synthetic_signs_hard_task",
    "synthetic_signs_task",
]

register_all()
