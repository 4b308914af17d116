"""Trained runs in use.

`recognizer` classifies images and stops looking as soon as a prediction is confident enough for the budget;
`onnx_export` writes the same networks as ONNX graphs, and `onnx_runner` runs those with ONNX Runtime and NumPy alone.
"""
