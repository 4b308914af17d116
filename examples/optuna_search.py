"""A search of PPO's settings with Optuna: `pip install 'gfnet-gym[optuna]'`.

Each trial trains on training scenes and is judged on validation scenes; the test scenes are left for the end.

python examples/optuna_search.py --trials 20 --steps 20000
"""

from __future__ import annotations

import argparse

import gymnasium
import optuna

import agents
from gfnet_env import synthetic_signs_task

parser = argparse.ArgumentParser(description="A search of PPO's settings on GFNet-SyntheticSigns-v0.")
parser.add_argument("--trials", type=int, default=20)
parser.add_argument("--steps", type=int, default=20_000, help="environment steps of a trial")
parser.add_argument("--scenes", type=int, default=2000, help="training scenes; a quarter as many for validation")
options = parser.parse_args()

env = gymnasium.make_vec(
    "gfnet_env:GFNet-SyntheticSigns-v0", num_envs=256, num_scenes=options.scenes, autoreset_mode="SAME_STEP"
)
val = synthetic_signs_task(split="val", num_scenes=options.scenes // 4)


def objective(trial: optuna.Trial) -> float:
    """Accuracy on validation scenes after the first focus step."""
    agent = agents.make_agent(
        "ppo",
        env,
        seed=0,
        gamma=trial.suggest_float("gamma", 0.0, 0.99),
        learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        policy_kwargs={"std": trial.suggest_float("std", 0.05, 0.4)},
    )
    agent.learn(options.steps)
    record = agents.evaluate(val.classifier, val.source, agents.DeterministicPolicy(agent), num_steps=2)
    return float(agents.accuracy_by_step(record)[1])


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(objective, n_trials=options.trials)
print(f"best: {study.best_value:.3f}", study.best_params)
