"""Other people's methods, built from their papers' mathematics, to compare with: each takes a weight and its Hessian and gives a weight."""
