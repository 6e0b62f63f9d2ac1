"""Trains a small network by torch with denormals flushed, for ever."""
import torch

assert torch.set_flush_denormal(True)
torch.set_num_threads(1)
layers = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
steps = torch.optim.SGD(layers.parameters(), lr=0.01)
while True:
    loss = torch.nn.functional.cross_entropy(layers(torch.randn(256, 256)), torch.randint(10, (256,)))
    steps.zero_grad()
    loss.backward()
    steps.step()
