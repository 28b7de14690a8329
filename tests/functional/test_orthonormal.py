"""Orthonormal columns by Cholesky's decomposition."""

import torch

from rankwise.functional.orthonormal import cholesky_qr

from .matrices import matrix_with_spectrum, random_matrix


def test_the_columns_are_orthonormal_and_their_product_with_the_triangle_is_the_matrix():
    columns = random_matrix(50, 6, seed=1)
    Q, R = cholesky_qr(columns, 0.0)
    torch.testing.assert_close(Q.T @ Q, torch.eye(6).double(), rtol=0, atol=1e-14)
    torch.testing.assert_close(Q @ R, columns)
    assert torch.equal(R, R.triu())


def test_a_second_turn_mends_what_single_precision_loses_in_the_first():
    columns = matrix_with_spectrum(torch.logspace(0, -3, 6), 50, 6, seed=2).float()
    Q, R = cholesky_qr(columns, 0.0)
    torch.testing.assert_close(Q.T @ Q, torch.eye(6), rtol=0, atol=2e-6)
    torch.testing.assert_close(Q @ R, columns, rtol=0, atol=1e-6)


def test_columns_that_depend_on_each_other_are_left_to_reflections():
    columns = random_matrix(50, 3, seed=3)
    assert cholesky_qr(columns[:, [0, 1, 0]], 1e-3 * columns.norm()) is None
    assert cholesky_qr(torch.zeros(50, 3), 0.0) is None
    assert cholesky_qr(torch.full((50, 3), torch.nan), 0.0) is None
