//! How a replica answers a read: snapshot, committed mark, and the tail's word if it must.

use super::{
    Sabotage,
    client::Response,
    oracle::stored_bodies,
    storage::Stored,
    world::{Checked, Event, Incarnation, World},
    write::value_of,
};
use ashlar_object::{
    Version,
    read::{ReadDecision, decide, decide_at},
};

/// A read under way at a node.
#[derive(Debug)]
pub(crate) struct Read {
    /// The client's operation.
    operation: usize,
    /// The versions of the key, once taken.
    snapshot: Option<Vec<Stored>>,
    /// How far the replica knew the partition to be committed, once taken.
    mark: Option<Version>,
    /// The versions in the snapshot whose staged bodies were not there.
    bodiless: Vec<Version>,
    /// The tail's word, if it was asked too early.
    early_word: Option<Version>,
}

/// A question on its way to a tail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailQuery {
    pub(super) tail: usize,
    partition: usize,
    node: usize,
    incarnation: Incarnation,
    read: u64,
}

/// A tail's word on its way back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailAnswer {
    pub(super) node: usize,
    incarnation: Incarnation,
    read: u64,
    committed: Version,
}

impl World {
    /// A read arrives at a node.
    pub(super) fn begin_read(&mut self, node: usize, operation: usize) -> Checked {
        let partition = self.partition_of(operation);
        if !self.serves(node, partition) {
            self.coverage.reads_refused += 1;
            self.respond(node, operation, Response::Unavailable);
            return Ok(());
        }
        self.reads += 1;
        let read =
            Read { operation, snapshot: None, mark: None, bodiless: Vec::new(), early_word: None };
        self.nodes[node].reads.insert(self.reads, read);
        if self.is_sabotaged(Sabotage::TailBeforeSnapshot) {
            self.ask_tail(node, partition, self.reads);
            return Ok(());
        }
        let incarnation = self.nodes[node].incarnation;
        self.read_step(node, incarnation, self.reads)
    }

    /// Takes the snapshot or the mark, whichever is next, or decides if both are there.
    pub(super) fn read_step(
        &mut self,
        node: usize,
        incarnation: Incarnation,
        read: u64,
    ) -> Checked {
        if !self.lives(node, incarnation) {
            return Ok(());
        }
        let this = &self.nodes[node].reads[&read];
        let (operation, taken) = (this.operation, (this.snapshot.is_some(), this.mark.is_some()));
        let partition = self.partition_of(operation);
        match taken {
            (false, false) if self.plan.mark_first => self.take_mark(node, partition, read),
            (false, _) => self.take_snapshot(node, partition, read)?,
            (true, false) => self.take_mark(node, partition, read),
            (true, true) => return self.decide(node, partition, read),
        }
        let delay_us = self.random.below(self.plan.read_step_us);
        let event = Event::ReadStep { node, incarnation, read };
        self.queue.push_after(delay_us, event);
        Ok(())
    }

    fn take_mark(&mut self, node: usize, partition: usize, read: u64) {
        let slot = self.slot(node, partition).expect("the replica runs");
        let committed = slot.replica.committed();
        self.read_mut(node, read).mark = Some(committed);
    }

    fn take_snapshot(&mut self, node: usize, partition: usize, read: u64) -> Checked {
        let key = self.operations[self.nodes[node].reads[&read].operation].key;
        let this = &self.nodes[node];
        let database = if self.plan.visible_before_sync {
            this.database.current()
        } else {
            this.database.durable()
        };
        let versions = database.partition(partition).versions(&self.keys[key].0).to_vec();
        let staged = versions.iter().filter_map(|stored| Some((stored.version, stored.stage()?)));
        let findings: Vec<_> = staged
            .map(|(version, stage)| (version, stored_bodies::check(this, version, stage)))
            .filter(|(_, finding)| finding.is_err())
            .collect();
        let bodiless = findings.iter().map(|(version, _)| *version).collect();
        for (_, finding) in findings {
            self.judge(stored_bodies::NAME, finding)?;
        }
        let this = self.read_mut(node, read);
        (this.snapshot, this.bodiless) = (Some(versions), bodiless);
        Ok(())
    }

    fn decide(&mut self, node: usize, partition: usize, read: u64) -> Checked {
        let this = &self.nodes[node].reads[&read];
        let versions = versions(this);
        let mark = this.mark.expect("the mark was taken");
        let decision = match this.early_word {
            Some(word) => decide_at(&versions, word),
            None => decide(&versions, mark),
        };
        let newest = versions.last().copied();
        match decision {
            ReadDecision::AskTail => {
                self.coverage.reads_dirty += 1;
                if self.is_sabotaged(Sabotage::ServeDirty) {
                    let newest = newest.expect("a dirty key has versions");
                    return self.serve(node, partition, read, ReadDecision::Serve(newest));
                }
                self.ask_tail(node, partition, read);
                Ok(())
            }
            decided => {
                self.coverage.reads_clean += 1;
                self.serve(node, partition, read, decided)
            }
        }
    }

    fn ask_tail(&mut self, node: usize, partition: usize, read: u64) {
        let tail = self.tail(partition);
        let query =
            TailQuery { tail, partition, node, incarnation: self.nodes[node].incarnation, read };
        self.coverage.tail_queries += 1;
        let now_us = self.now_us();
        let arrivals = self.network.send(now_us, node, tail, &mut self.random);
        for at_us in arrivals.iter() {
            self.queue.push_at(at_us, Event::TailQuery(query));
        }
    }

    /// A question arrives at a tail, which answers only while it serves.
    pub(super) fn tail_query(&mut self, query: TailQuery) {
        let TailQuery { tail, partition, node, incarnation, read } = query;
        if !self.serves(tail, partition) {
            return;
        }
        let slot = self.slot(tail, partition).expect("the replica runs");
        let answer = TailAnswer { node, incarnation, read, committed: slot.replica.committed() };
        let now_us = self.now_us();
        let arrivals = self.network.send(now_us, tail, node, &mut self.random);
        for at_us in arrivals.iter() {
            self.queue.push_at(at_us, Event::TailAnswer(answer));
        }
    }

    /// The tail's word arrives; a second copy finds the read answered.
    pub(super) fn tail_answer(&mut self, answer: TailAnswer) -> Checked {
        let TailAnswer { node, incarnation, read, committed } = answer;
        if !self.lives(node, incarnation) {
            return Ok(());
        }
        let sabotaged = self.is_sabotaged(Sabotage::TailBeforeSnapshot);
        let Some(this) = self.nodes[node].reads.get_mut(&read) else {
            return Ok(());
        };
        if sabotaged {
            let repeated = this.early_word.replace(committed).is_some();
            return match repeated {
                true => Ok(()),
                false => self.read_step(node, incarnation, read),
            };
        }
        self.coverage.tail_answers += 1;
        let (operation, versions) = (this.operation, versions(this));
        let decided = decide_at(&versions, committed);
        let older = decided != ReadDecision::Serve(*versions.last().expect("the key is dirty"));
        self.coverage.reads_of_older_version += u64::from(older);
        let partition = self.partition_of(operation);
        self.serve(node, partition, read, decided)
    }

    /// Answers, if the replica still serves.
    fn serve(
        &mut self,
        node: usize,
        partition: usize,
        read: u64,
        decision: ReadDecision,
    ) -> Checked {
        let this = self.nodes[node].reads.remove(&read).expect("the read is under way");
        if !self.serves(node, partition) {
            self.coverage.reads_refused += 1;
            self.respond(node, this.operation, Response::Unavailable);
            return Ok(());
        }
        let served = match decision {
            ReadDecision::Serve(version) => {
                this.snapshot.iter().flatten().find(|stored| stored.version == version)
            }
            ReadDecision::Absent => None,
            ReadDecision::AskTail => unreachable!("the tail has been asked"),
        };
        let value = served.and_then(|stored| value_of(&stored.operation.change));
        let bodiless = served.is_some_and(|stored| this.bodiless.contains(&stored.version));
        let finding = if bodiless { Err(format!("{value:?} has no body")) } else { Ok(()) };
        self.judge_clients(stored_bodies::NAME, finding, Vec::new())?;
        let operation = this.operation;
        self.note(|| {
            format!("p{partition} at n{node} answers {operation}: {decision:?} {value:?}")
        });
        self.respond(node, operation, Response::Read(value));
        Ok(())
    }

    /// Whether the node has a replica that may answer reads.
    fn serves(&mut self, node: usize, partition: usize) -> bool {
        let unjoined = self.is_sabotaged(Sabotage::ServeUnjoined);
        self.slot(node, partition).is_some_and(|slot| unjoined || slot.replica.serves_reads())
    }

    fn read_mut(&mut self, node: usize, read: u64) -> &mut Read {
        self.nodes[node].reads.get_mut(&read).expect("the read is under way")
    }
}

fn versions(read: &Read) -> Vec<Version> {
    let stored = read.snapshot.iter().flatten();
    stored.map(|stored| stored.version).collect()
}
