//! The graph of a model's relationships: which datasets join directly, and by which path others do.

use std::collections::{BTreeMap, VecDeque};

use super::super::model::Model;

/// Datasets by their position in the model, joined by relationships, by theirs. Directions don't matter to a join.
#[derive(Debug, Default)]
pub(super) struct JoinGraph {
    /// For each dataset its neighbours with the relationships to each, in the order of the model.
    neighbours: Vec<BTreeMap<u32, Vec<u32>>>,
}

impl JoinGraph {
    pub(super) fn new(model: &Model) -> Self {
        let positions: BTreeMap<&str, u32> =
            model.datasets.iter().map(|dataset| dataset.name.as_str()).zip(0u32..).collect();
        let mut neighbours: Vec<BTreeMap<u32, Vec<u32>>> = vec![BTreeMap::new(); model.datasets.len()];
        for (relationship, link) in (0u32..).zip(&model.relationships) {
            // The loader refuses relationships to unknown datasets.
            let (Some(&from), Some(&to)) =
                (positions.get(link.from.as_str()), positions.get(link.to.as_str()))
            else {
                continue;
            };
            neighbours[from as usize].entry(to).or_default().push(relationship);
            if from != to {
                neighbours[to as usize].entry(from).or_default().push(relationship);
            }
        }
        Self { neighbours }
    }

    /// Datasets that join `dataset` directly, other than itself.
    pub(super) fn neighbours(&self, dataset: usize) -> impl Iterator<Item = usize> {
        self.neighbours[dataset].keys().map(|next| *next as usize).filter(move |next| *next != dataset)
    }

    /// Every relationship between two datasets, or of one with itself.
    pub(super) fn between(&self, one: usize, other: usize) -> &[u32] {
        u32::try_from(other)
            .ok()
            .and_then(|other| self.neighbours[one].get(&other))
            .map_or(&[], Vec::as_slice)
    }

    /// A shortest path from `start` to each of `ends`, both included; without the ends that cannot be reached. Among
    /// paths of one length the one through the datasets that the model names first.
    pub(super) fn paths(&self, start: usize, ends: &[usize]) -> Vec<Vec<usize>> {
        let mut wanted: Vec<usize> = ends.to_vec();
        let mut previous: Vec<Option<usize>> = vec![None; self.neighbours.len()];
        previous[start] = Some(start);
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            wanted.retain(|end| *end != at);
            if wanted.is_empty() {
                break;
            }
            for next in self.neighbours(at) {
                if previous[next].is_none() {
                    previous[next] = Some(at);
                    queue.push_back(next);
                }
            }
        }
        let path_to = |end: usize| {
            let mut path = vec![end];
            let mut at = end;
            while at != start {
                at = previous[at]?;
                path.push(at);
            }
            path.reverse();
            Some(path)
        };
        ends.iter().filter_map(|end| path_to(*end)).collect()
    }
}
