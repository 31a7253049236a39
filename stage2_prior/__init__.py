"""Stage two: autoregressive priors over the codes of stage one, and sampling from them."""
