"""A Gymnasium environment for learning where to look. `import gfnet_env` registers its ids."""

import warnings

from gfnet_env.drawn_tasks import synthetic_signs_hard_task, synthetic_signs_task
from gfnet_env.dynamics import GlanceFocusDynamics
from gfnet_env.env import GlanceFocusEnv
from gfnet_env.episode import EpisodeSpec
from gfnet_env.installation import foreign_agents, installed_version
from gfnet_env.registration import TASKS, RegisteredTask, register_task
from gfnet_env.rewards import REWARDS, register_reward
from gfnet_env.score import ScoreScale
from gfnet_env.task_images import TaskImages
from gfnet_env.tasks import (
    Task,
    image_folder_task,
    imagenet_task,
    recorded_clips_task,
    synthetic_gestures_task,
)
from gfnet_env.torch_vector_env import GlanceFocusTorchVectorEnv
from gfnet_env.vector_env import GlanceFocusVectorEnv
from gfnet_env.wrappers import GridAction, VectorGridAction

__version__ = installed_version()
if (_clash := foreign_agents()) is not None:
    warnings.warn(_clash, stacklevel=2)

__all__ = [
    "REWARDS",
    "TASKS",
    "EpisodeSpec",
    "GlanceFocusDynamics",
    "GlanceFocusEnv",
    "GlanceFocusTorchVectorEnv",
    "GlanceFocusVectorEnv",
    "GridAction",
    "RegisteredTask",
    "ScoreScale",
    "Task",
    "TaskImages",
    "VectorGridAction",
    "image_folder_task",
    "imagenet_task",
    "recorded_clips_task",
    "register_reward",
    "register_task",
    "synthetic_gestures_task",
    "synthetic_signs_hard_task",
    "synthetic_signs_task",
]
