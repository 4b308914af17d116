"""Policies: learned with Stable-Baselines3, baselines to judge them by, and the pipeline that trains a whole run."""

from agents.adaptive import fit_exit_rule
from agents.baselines import centre_corner_policy, oracle_policy, random_policy
from agents.deterministic_policy import DeterministicPolicy, agent_locator
from agents.evaluation import EvaluationRecord, evaluate, load_record
from agents.factory import as_sb3, make_agent
from agents.loaded_run import LoadedRun, load_run
from agents.pipeline import Pipeline
from agents.ppo_gru import PPOGRU
from agents.published_run import import_checkpoint
from agents.recipes import AGENTS, AgentRecipe
from agents.recognizer import Recognition, Recognizer
from agents.run import load_policy, save_policy
from agents.run_config import RunConfig
from agents.sb3_vec_env import SB3VecEnv

__all__ = [
    "AGENTS",
    "PPOGRU",
    "AgentRecipe",
    "DeterministicPolicy",
    "EvaluationRecord",
    "LoadedRun",
    "Pipeline",
    "Recognition",
    "Recognizer",
    "RunConfig",
    "SB3VecEnv",
    "agent_locator",
    "as_sb3",
    "centre_corner_policy",
    "evaluate",
    "fit_exit_rule",
    "import_checkpoint",
    "load_policy",
    "load_record",
    "load_run",
    "make_agent",
    "oracle_policy",
    "random_policy",
    "save_policy",
]
