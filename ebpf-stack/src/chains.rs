//! Chains of calls in a program's call graph.

use crate::{Error, Function, ROUNDING};

/// Bytes of all frames of a chain, rounded up.
pub(crate) fn depth(chain: &[usize], functions: &[Function]) -> u32 {
    chain.iter().map(|index| functions[*index].frame.max(1).next_multiple_of(ROUNDING)).sum()
}

/// The chain from the program's first function on that uses most of the stack.
pub(crate) fn deepest(functions: &[Function]) -> Result<Vec<usize>, Error> {
    greatest(functions, |chain| depth(chain, functions))
}

/// The one with most frames, whatever they hold.
pub(crate) fn longest(functions: &[Function]) -> Result<Vec<usize>, Error> {
    greatest(functions, |chain| chain.len() as u32)
}

fn greatest(functions: &[Function], measure: impl Fn(&[usize]) -> u32) -> Result<Vec<usize>, Error> {
    let mut search = Search { functions, measure, known: vec![Known::Nothing; functions.len()] };
    search.from(0)
}

struct Search<'a, M> {
    functions: &'a [Function],
    measure: M,
    known: Vec<Known>,
}

#[derive(Clone)]
enum Known {
    Nothing,
    /// It is being searched from.
    Open,
    Chain(Vec<usize>),
}

impl<M: Fn(&[usize]) -> u32> Search<'_, M> {
    fn from(&mut self, index: usize) -> Result<Vec<usize>, Error> {
        match &self.known[index] {
            Known::Chain(chain) => return Ok(chain.clone()),
            Known::Open => return Err(Error::Recursion(self.functions[index].start)),
            Known::Nothing => self.known[index] = Known::Open,
        }
        let mut below = Vec::new();
        for called in &self.functions[index].calls {
            let chain = self.from(*called)?;
            if (self.measure)(&chain) >= (self.measure)(&below) {
                below = chain;
            }
        }
        below.insert(0, index);
        self.known[index] = Known::Chain(below.clone());
        Ok(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions with these frames, each of which calls these.
    fn functions(all: &[(u32, &[usize])]) -> Vec<Function> {
        let function = |(start, (frame, calls)): (usize, &(u32, &[usize]))| Function {
            start,
            frame: *frame,
            calls: calls.iter().copied().collect(),
        };
        all.iter().enumerate().map(function).collect()
    }

    #[test]
    fn deepest_chain_need_not_be_the_longest() {
        let functions = functions(&[(8, &[1, 3]), (8, &[2]), (8, &[]), (200, &[])]);
        assert_eq!(deepest(&functions), Ok(vec![0, 3]));
        assert_eq!(depth(&[0, 3], &functions), 32 + 224);
        assert_eq!(longest(&functions), Ok(vec![0, 1, 2]));
    }

    #[test]
    fn a_function_that_calls_itself_is_an_error() {
        assert_eq!(deepest(&functions(&[(8, &[1]), (8, &[2]), (8, &[1])])), Err(Error::Recursion(1)));
        assert_eq!(deepest(&functions(&[(8, &[1, 2]), (8, &[2]), (8, &[])])), Ok(vec![0, 1, 2]));
    }
}
