//! Promise: every operation's gradient is its derivative, in f64, at odd sizes.

use burn::{DType, Tensor, TensorData, activation};

use super::{
    model::{Angles, attention, cross_entropy, rms_norm, rotate},
    place::Place,
    random::Key,
};

type Shape = [usize; 2];

fn tensor(values: &[f64], shape: Shape) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (&Place::cpu_f64().device, DType::F64))
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.try_into_vec_as::<f64>().unwrap()
}

fn random(n: usize, seed: u64) -> Vec<f64> {
    (0..n as u64).map(|i| Key::new(&[seed]).normal(i)).collect()
}

/// Central differences against the tape, for a scalar made of the result and fixed weights.
fn check(name: &str, shapes: &[Shape], f: impl Fn(&[Tensor<2>]) -> Tensor<2>) {
    const H: f64 = 1e-5;
    let inputs: Vec<Vec<f64>> = shapes.iter().zip(1..).map(|(s, seed)| random(s[0] * s[1], seed)).collect();
    let scalar = |inputs: &[Tensor<2>]| {
        let out = f(inputs);
        let [rows, cols] = out.dims();
        let weights = tensor(&random(rows * cols, 99), [rows, cols]);
        (out * if inputs[0].device().is_autodiff() { weights.autodiff() } else { weights }).sum()
    };
    let make = |inputs: &[Vec<f64>]| inputs.iter().zip(shapes).map(|(v, s)| tensor(v, *s)).collect::<Vec<_>>();
    let leaves: Vec<Tensor<2>> = make(&inputs).into_iter().map(|t| t.autodiff().require_grad()).collect();
    let mut tape = scalar(&leaves).backward();
    for (input, leaf) in leaves.iter().enumerate() {
        let found =
            read(leaf.grad_remove(&mut tape).unwrap_or_else(|| panic!("{name}: input {input} has no gradient")));
        let scale = found.iter().fold(1e-3f64, |most, value| most.max(value.abs()));
        for (at, found) in found.into_iter().enumerate() {
            let moved = |by: f64| {
                let mut inputs = inputs.clone();
                inputs[input][at] += by;
                read(scalar(&make(&inputs)))[0]
            };
            let expected = (moved(H) - moved(-H)) / (2.0 * H);
            let error = (found - expected).abs() / scale;
            assert!(error < 1e-6, "{name}: input {input} value {at}: {found} found, {expected} expected");
        }
    }
}

fn angles(length: usize, half: usize) -> Angles {
    let place = Place::cpu_f64();
    let values: Vec<f32> = (0..length * half).map(|i| (i / half) as f32 / (1.0 + (i % half) as f32)).collect();
    Angles::new(&place, &values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), length)
}

#[test]
fn gradients_are_derivatives() {
    check("matmul", &[[3, 5], [7, 5]], |t| t[0].clone().matmul(t[1].clone().transpose()));
    check("lora", &[[3, 5], [2, 5], [7, 2]], |t| {
        t[0].clone().matmul(t[1].clone().transpose()).mul_scalar(1.7).matmul(t[2].clone().transpose())
    });
    check("dropout", &[[3, 5]], |t| {
        let factors: Vec<f64> = Key::new(&[3]).dropout(0.4, 15).into_iter().map(f64::from).collect();
        let factors = tensor(&factors, [3, 5]);
        t[0].clone() * if t[0].device().is_autodiff() { factors.autodiff() } else { factors }
    });
    check("rms_norm", &[[3, 5]], |t| rms_norm(t[0].clone(), &tensor(&random(5, 8), [1, 5]).squeeze(), 1e-5));
    check("swiglu", &[[3, 7], [3, 7]], |t| activation::silu(t[0].clone()) * t[1].clone());
    check("select", &[[5, 3]], |t| {
        let indices = Place::cpu_f64().indices(vec![4, 1, 1, 0], [4]);
        t[0].clone().select(0, if t[0].device().is_autodiff() { indices.autodiff() } else { indices })
    });
    check("embedding rows", &[[3, 5]], |t| {
        let pick = tensor(&[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0], [4, 3]);
        (if t[0].device().is_autodiff() { pick.autodiff() } else { pick }).matmul(t[0].clone())
    });
    check("cross_entropy", &[[4, 7]], |t| {
        let columns = Place::cpu_f64().indices(vec![6, 0, 3, 3], [4, 1]);
        let columns = if t[0].device().is_autodiff() { columns.autodiff() } else { columns };
        cross_entropy(t[0].clone(), columns).reshape([1, 1])
    });
    check("head of frozen and trained rows", &[[4, 3], [2, 3]], |t| {
        let frozen = tensor(&random(15, 5), [5, 3]).transpose();
        let frozen = if t[0].device().is_autodiff() { frozen.autodiff() } else { frozen };
        Tensor::cat(vec![t[0].clone().matmul(frozen), t[0].clone().matmul(t[1].clone().transpose())], 1)
    });
    check("rotate", &[[15, 6]], |t| rotate(t[0].clone().reshape([1, 3, 5, 6]), &angles(5, 3)).reshape([15, 6]));
    check("attention", &[[24, 6], [12, 6], [12, 6]], |t| {
        // Two sequences of three tokens, four query heads over two key heads; one at a time, for tests have little room for scores.
        let [q, k, v] = [(0, 4), (1, 2), (2, 2)].map(|(i, heads)| t[i].clone().reshape([2, heads, 3, 6]));
        attention(q, k, v, &angles(3, 3), DType::F64).reshape([24, 6])
    });
}
