"""Encoder, decoder and prior as graphs that other runtimes compute: ONNX, or torch.export."""
