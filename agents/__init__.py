"""GFNet-Gym's policies, learned with Stable-Baselines3, baselines beside them, and the pipeline that trains a run."""

from agents.algorithms.make_agent import as_sb3, make_agent
from agents.algorithms.ppo_gru import PPOGRU
from agents.algorithms.registry import AGENTS, AgentRecipe
from agents.algorithms.sb3_vec_env import SB3VecEnv
from agents.evaluation.budgets import apply_exit_rule, budget_curve, fit_exit_rule
from agents.evaluation.diagnostics import Diagnostics, diagnose
from agents.evaluation.metrics import accuracy_by_step, coverage, pointing_game
from agents.evaluation.play import Played, play
from agents.evaluation.record import EvaluationRecord, load_record
from agents.evaluation.rollout import evaluate
from agents.evaluation.stopping import ExitRule
from agents.policies.actor_critic import GlimpseActorCriticPolicy
from agents.policies.baselines import CenterCornerPolicy, OraclePolicy, RandomPolicy, ReferencePolicy, ScanPolicy
from agents.policies.box_regression import train_box_policy
from agents.policies.deterministic import DeterministicPolicy
from agents.policies.extractor import GlimpseExtractor
from agents.policies.protocol import LocationPolicy
from agents.policies.weights import load_policy, save_policy
from agents.recognition.pictures import Downloads
from agents.recognition.recognizer import Recognition, Recognizer
from agents.runs.config import RunConfig
from agents.runs.config_files import load_config
from agents.runs.import_published import import_checkpoint
from agents.runs.pipeline import Pipeline
from agents.runs.run import LoadedRun, load_recognizer, load_run

__all__ = [
    "AGENTS",
    "PPOGRU",
    "AgentRecipe",
    "CenterCornerPolicy",
    "DeterministicPolicy",
    "Diagnostics",
    "Downloads",
    "EvaluationRecord",
    "ExitRule",
    "GlimpseActorCriticPolicy",
    "GlimpseExtractor",
    "LoadedRun",
    "LocationPolicy",
    "OraclePolicy",
    "Pipeline",
    "Played",
    "RandomPolicy",
    "Recognition",
    "Recognizer",
    "ReferencePolicy",
    "RunConfig",
    "SB3VecEnv",
    "ScanPolicy",
    "accuracy_by_step",
    "apply_exit_rule",
    "as_sb3",
    "budget_curve",
    "coverage",
    "diagnose",
    "evaluate",
    "fit_exit_rule",
    "import_checkpoint",
    "load_config",
    "load_policy",
    "load_recognizer",
    "load_record",
    "load_run",
    "make_agent",
    "play",
    "pointing_game",
    "save_policy",
    "train_box_policy",
]
