//! A stream of choices that the grammars draw from, so that a failing case shrinks: fewer and smaller numbers are a
//! smaller world or query. An empty stream chooses the first of everything.

pub struct Choices<'c> {
    rest: std::slice::Iter<'c, u32>,
}

impl<'c> Choices<'c> {
    pub fn new(numbers: &'c [u32]) -> Self {
        Self { rest: numbers.iter() }
    }

    /// From 0 to `below - 1`.
    pub fn pick(&mut self, below: usize) -> usize {
        self.rest.next().map_or(0, |number| *number as usize % below.max(1))
    }

    /// True once in `times`; false when there is nothing left to choose.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.pick(times) == times - 1
    }

    pub fn of<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[self.pick(items.len())]
    }
}
