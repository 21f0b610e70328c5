"""Experiment files of a ledger of one task, on tiny data."""

MINE = """
task: ledger
head:
  - {title: The digits, of: {task: mnist, metric: test_accuracy, epoch: 2}}
reported:
  - {task: grid, metric: rank_of_choice, value: 1, unit: rank, quote: the best, fault: "It has no run: none was made"}
beyond:
  - title: The digits beyond
    task: mnist
    metric: test_accuracy
    epoch: 1
    against: {task: mnist, metric: test_accuracy, epoch: 2}
  - {title: The best of the grid again, task: grid, metric: fresh_test_accuracy}
  - {title: Never searched, task: search, metric: best_test_accuracy, tags: {trackdl.role: finalist}}
"""
DIGITS = """
task: classify
data: {dataset: mnist}
network: {family: digit}
test: every_epoch
training: {epochs: 2, batch_size: 64, optimizer: {name: sgd, lr: 0.01, momentum: 0.5}, seed: 1}
curves:
  - {cell: 5, what: batch_loss, metric: batch_losses}
reported:
  - {metric: test_loss, epoch: 1, value: 2.0, quote: "Avg. loss: 2.0"}
  - {metric: test_accuracy, epoch: 2, value: 0.5, quote: "50.00%"}
  - {metric: train_loss, epoch: 2, value: 2.0, quote: "2.0"}
  - {metric: train_accuracy, epoch: 2, value: 0.5, quote: "50.00%", fault: "this is none: it is made up"}
"""
