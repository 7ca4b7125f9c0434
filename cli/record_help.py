"""What `hist record --help` teaches."""

HELP = """\
Record how many learners learn: one for each seed, with its every step and update.

\b
Worlds, by --env:
  bandit, darkroom, darkroom-hard, darkroom-permuted, dark-key-to-door, watermaze
                                    families of tasks of this package
  CartPole-v1, ALE/Pong-v5, my_package:MyEnv-v0
                                    any Gymnasium id: a single task
  minigrid:MiniGrid-Empty-8x8-v0    a task is a layout        (extra minigrid)
  metaworld:reach-v3                a task is a goal of ML1   (extra metaworld)
  my_package:MyFamily               a class of yours; the README shows one
--env-arg sets what they take: size=13, layouts=500, g=3, max_episode_steps=50.

\b
Learners, by --algo:
  ppo a2c dqn sac td3 ddpg          Stable-Baselines3
  recurrent-ppo trpo qr-dqn         sb3-contrib               (extra contrib)
  ucb thompson q-learning           bandits, and tables for grids
  noise expert                      an optimal policy with annealed noise, or without any
  my_package.module:MyAlgo          any class on Stable-Baselines3's BaseAlgorithm

Where a pair has no preset, the algorithm's own defaults hold, and --steps must be given. What the observations are
decides the policy (Mlp, Cnn or MultiInput) unless --policy does. With other --streams than a preset's own, its
n_steps changes, so that a rollout holds as many steps. For td3 and ddpg, --set action_noise=0.1 is the standard
deviation of Gaussian noise on actions scaled to [-1, 1].

\b
Engines, by --engine, for ppo, a2c and dqn:
  sb3        the default and the reference: Stable-Baselines3, one learner at a time; images, recurrence,
             continuous actions, checkpoints on the way
  lockstep   hundreds of learners at once in each worker, for small networks on flat observations and discrete
             actions: the same updates, some 20 times faster with one stream; of checkpoints, final alone
They draw other random numbers, so a learner of one is another learner than that of the other.

The same command again skips what is complete and records the rest, whatever stopped it the first time (Ctrl-C, a
crash, a full disk). Other settings are other learners, which may share the store. The number of workers changes
nothing in what is recorded.

With --checkpoints every=N, a learner that was killed goes on from its last checkpoint. About every N of its steps,
between two rollouts, everything it needs for that is stored: parameters, optimiser, replay buffer, random
generators, and the environments of batched families. It ends with the digest of an undisturbed run. Environments
that cannot be stored so begin a new episode, with other seeds; the open one ends as truncated, and the digest
differs. A learner keeps its last checkpoint alone, and at the end the trained model, as with final.

A store may lie at a URL: shards are written on this machine first and uploaded whole. While its server does not
answer, learning goes on and shards wait here; the same command uploads them. Credentials come from the environment.

\b
Examples:
  hist record --algo ppo --env darkroom --seeds 0-999
  hist record --algo q-learning --env darkroom-hard --seeds 0-1733 --out hard
  hist record --engine lockstep --algo ppo --env darkroom --seeds 0-999 --streams 1
  hist record --algo ppo --env darkroom --seeds 0-9 --steps 50000 --set learning_rate=1e-3 --set n_steps=64
  hist record --algo a2c --env darkroom --seeds 7 --set 'policy_kwargs={"net_arch": [128, 128]}'
  hist record --algo sac --env Pendulum-v1 --seeds 0-3
  hist record --algo dqn --env CartPole-v1 --seeds 0-3 --env-arg max_episode_steps=200
  hist record --algo recurrent-ppo --env minigrid:MiniGrid-Empty-8x8-v0 --seeds 0-99 --steps 200000
  hist record --algo dqn --env darkroom --seeds 0-9 --steps 500000 --checkpoints every=20000
  hist record --algo ppo --env darkroom --seeds 0-99 --out s3://bucket/rooms
  hist record --algo ppo --env darkroom --seeds 0-99 --json > progress.jsonl
"""
