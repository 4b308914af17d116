"""Learning where to look without reinforcement learning: gradients flow through the crop into the policy.

AdaFocus V2 (Wang et al., CVPR 2022, arXiv:2112.14238) interpolates the patch between pixels, so that the classification
loss is differentiable in the patch's place. Here this trains pi alone, through the frozen classifier. AdaFocus V2
trains all networks together, on clips, and with further losses.

The gradient only knows what changes when a patch moves by a pixel, so it points to an object that the patch's border
touches, and nowhere where the patch shows background.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from torch import Tensor
from torch.nn import functional

from agents.policies.actor_critic import GlimpseActorCriticPolicy
from classifiers.data.source import Batch, ImageSource
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.geometry import crop_between_pixels
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.glimpse import View, summarize_logits
from gfnet_env.actions import to_location
from gfnet_env.observation import observe
from gfnet_env.tasks import Task


class DifferentiableCrop(BaseAlgorithm):
    """Trains a policy by back-propagation through whole episodes: head, encoder, crop, policy.

    The loss is the cross-entropy of the frozen classifier after every focus step, averaged over steps and images. It
    reads images and classifier from the environment's `task` and never steps the environment, so its reward has no
    effect. Places are the policy's mean plus its noise, as in PPO.

    A step is a look at one patch, as an environment step is, so that budgets compare. A look costs a backward pass
    through the encoder as well.

    Args:
        policy: a `GlimpseActorCriticPolicy` or a subclass; its value function is not used.
        env: one of our environments whose actions are (row, col).
        learning_rate: of the policy's optimizer.
        batch_size: images in an update.
        max_grad_norm: gradients are clipped to this norm.
        policy_kwargs: arguments of the policy.
        tensorboard_log: see SB3.
        verbose: see SB3.
        seed: of everything random.
        device: of the policy.

    Raises:
        ValueError: if actions are not (row, col); in `learn`, if the classifier is compiled.
    """

    policy: GlimpseActorCriticPolicy

    def __init__(
        self,
        policy: type[GlimpseActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 7e-4,
        batch_size: int = 16,
        max_grad_norm: float = 0.5,
        policy_kwargs: dict[str, Any] | None = None,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate,
            policy_kwargs,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
        )
        self.batch_size = batch_size
        self.max_grad_norm = max_grad_norm
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        if (names := getattr(self.action_space, "names", ())) != ("row", "col"):
            raise ValueError(
                f"the environment's actions are {names or self.action_space}; differentiable_crop decides only (row, "
                "col): leave out stop_action, size_action and wrappers of actions"
            )
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        ).to(self.device)

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str = "differentiable_crop",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Trains for a number of looks, rounded up to whole batches of episodes; see SB3's `learn`."""
        total, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar=progress_bar
        )
        assert self.env is not None
        task: Task = self.env.get_attr("task", 0)[0]
        classifier = task.classifier
        if classifier.is_compiled:
            raise ValueError("the classifier is compiled, which gives no gradients; pass compile=False")
        callback.on_training_start(locals(), globals())
        for number, batch in enumerate(_batches(task.source, self.batch_size)):
            callback.on_rollout_start()
            self._update_current_progress_remaining(self.num_timesteps, total)
            loss = self._update(classifier, batch)
            self.num_timesteps += len(batch.labels) * (classifier.spec.num_glimpses - 1)
            callback.update_locals(locals())
            goes_on = callback.on_step()
            callback.on_rollout_end()
            self.logger.record("train/loss", loss)
            if number % log_interval == 0:
                self.dump_logs()
            if not goes_on or self.num_timesteps >= total:
                break
        callback.on_training_end()
        return self

    def dump_logs(self) -> None:
        """Writes what was recorded to the logger's outputs."""
        episodes = self.ep_info_buffer or ()
        if episodes:
            self.logger.record("rollout/ep_rew_mean", sum(each["r"] for each in episodes) / len(episodes))
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)

    def _update(self, classifier: FrozenClassifier, batch: Batch) -> float:
        """One gradient step on a batch of images; returns the loss."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        labels = batch.labels.to(classifier.device)
        logits = torch.stack(list(self._episode(classifier, batch)))  # (T, B, K)
        looks = len(logits) - 1
        loss = functional.cross_entropy(logits[1:].flatten(0, 1), labels.repeat(looks))
        self.policy.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        first, last = (summarize_logits(logits[step].detach(), labels).label_probability for step in (0, -1))
        assert first is not None and last is not None and self.ep_info_buffer is not None
        self.ep_info_buffer.extend({"r": gain, "l": looks} for gain in (last - first).tolist())
        return loss.item()

    def _episode(self, classifier: FrozenClassifier, batch: Batch) -> Iterator[Tensor]:
        """The logits (B, K) of each glimpse, differentiable in the policy's weights."""
        images = batch.images.to(classifier.device)
        spec, state = classifier.spec, None
        if len(spec.scales) > 1:
            raise ValueError(f"patch_scales={list(spec.scales)} with differentiable_crop; leave them out")
        first = classifier.first_location(len(images))
        with torch.no_grad():  # a method of the base class, because the frozen one's tensors have no gradients
            glimpse = GlanceFocusClassifier.glance(classifier, images, first)
        view = View.first(glimpse, images, spec.num_glimpses, None, first, len(spec.patch_sizes))
        yield glimpse.logits
        for _ in range(spec.num_glimpses - 1):
            size = int(torch.randint(len(spec.patch_sizes), ()))
            view = view.with_next_size(size)
            mean, state = self.policy.mean_action(observe(view, tuple(self.policy.observation_space)), state)  # type: ignore[arg-type]  # a Dict
            location = to_location(mean + self.policy.log_std.exp() * torch.randn_like(mean))
            patches = crop_between_pixels(images, location, spec.patch_sizes[size])
            glimpse = GlanceFocusClassifier.focus(classifier, classifier.normalize(patches), view.glimpse.hidden)
            view = view.after(location, glimpse)
            yield glimpse.logits

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []


def _batches(source: ImageSource, size: int) -> Iterator[Batch]:
    """Batches of all images in random order, again and again."""
    while True:
        chunks = torch.randperm(len(source)).split(size)
        for indices, following in zip(chunks, (*chunks[1:], None), strict=True):
            batch = source.fetch(indices)
            if following is not None:
                source.prefetch(following.numpy())
            yield batch
