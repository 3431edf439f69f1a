/*-------------------------------------------------------------------------
 *
 * lock.pml
 *	  A model of the lock protocol, for the model checker spin.
 *
 * One lockid, and three sessions that lock, wait, renew, unlock and force-unlock it
 * in transactions that commit, fail to commit, roll back and are prepared; sessions
 * that end, are terminated or discard their tags; crashes.  spin explores every state
 * that these can reach in any order of their steps.  test/model.sh runs it.
 *
 * Each inline is named after the function of the C code that it stands for.  One look
 * at or change of shared memory is one step (atomic).  The server's own parts (the
 * queue of the lock manager, the visibility of rows, the order in which a commit
 * becomes durable and visible and releases its tags) are modelled as they work.  There
 * are no counters: a run can be of any length.
 *
 * Checked in every state that can be reached:
 *
 *	exclusion		when a taking becomes visible, no holding is in force, and there
 *					are never two rows (make_visible)
 *	living sessions	are not taken for dead (delete_ended_holdings)
 *	nothing lost	a crash loses no acknowledged durable lock: no later look misses
 *					its row (make_visible)
 *	fences			grow in the order of the holdings, over crashes too
 *					(insert_holding)
 *	nothing left	outside of a transaction a session has the lock tag if and only if
 *					it holds the lock in session mode, and never the waiter tag
 *					(Session)
 *	wake-ups		no session sleeps, neither woken nor about to be, while the lock
 *					is free (Monitor)
 *	first come,		of the sessions that wait for the lock tag and stay, the first
 *	first served	takes the lock (insert_holding)
 *	no deadlock		spin's own check of end states
 *	served			a waiter gets the lock or gives up: the formula at the end, without
 *					any poll, for sessions that release what they have
 *
 * Four wake-ups can be lost, which is why the first waiter polls: that of COMMIT
 * PREPARED, which sends none; that for a lease that expires; one that is consumed by
 * the wait for the waiter tag; and one for the end of a transaction that force-unlocks
 * what a dead session left, if that began between the waiter's look at the row and its
 * attempt to delete it.  The model excuses them where they happen.
 *
 * Left out: savepoints, the adoption of a run's lock, the built-in lock of a workspace,
 * hash collisions, and time: whatever has a timeout may reach it at any moment.  The entry in
 * shared memory of a lock in session mode is a row here, whose changes are seen at the commit
 * with all others; session.pml has how it really ends.
 *
 * Macros choose what is explored; all are 0 by default.  With one of the BUG_ macros
 * the model has that bug.
 *
 *-------------------------------------------------------------------------
 */

#ifndef SESSIONS
#define SESSIONS	3
#endif
#ifndef OPERATIONS
#define OPERATIONS	1			/* of a transaction */
#endif
#ifndef SESSION_MODE
#define SESSION_MODE	0		/* locks in session mode */
#endif
#ifndef DURABLE_MODE
#define DURABLE_MODE	0		/* durable locks */
#endif
#ifndef LEASES
#define LEASES		0			/* durable locks have a ttl, expire and are renewed */
#endif
#ifndef CANCELS
#define CANCELS		0			/* commits fail, waits are canceled or time out */
#endif
#ifndef ENDS
#define ENDS		0			/* sessions end, whatever they hold */
#endif
#ifndef DISCARDS
#define DISCARDS	0			/* pg_advisory_unlock_all() */
#endif
#ifndef FORCES
#define FORCES		0			/* tfstate_force_unlock() */
#endif
#ifndef PREPARES
#define PREPARES	0			/* PREPARE TRANSACTION */
#endif
#ifndef CRASHES
#define CRASHES		0			/* of the server, and failovers */
#endif
#ifndef POLLS
#define POLLS		0			/* the first waiter looks again each second */
#endif

#define PREPARED	(SESSIONS + 1)	/* stands for the session of a prepared transaction */
#define PROCS		(SESSIONS + 2)
#define NOBODY		0
#define NONE		2				/* no row */

/*
 * Shared memory: the tags.  The lock tag has an owner, which has it a number of times at
 * transaction level and at session level, and a queue.  The waiter tag has an owner.
 * The session tag and the tag of a transaction's number need no variables of their own:
 * whatever names them is changed when they end, as neither number is ever used again.
 */
byte tag_owner, tag_xact, tag_session;
chan tag_queue = [SESSIONS] of { byte };
byte waiter_tag_owner;
byte awaited[PROCS];		/* the transaction that a session has seen changing a row */

bit latch[PROCS];
bit terminated[PROCS];		/* has received SIGTERM */

/*
 * The rows of durable locks and of those in session mode.  inserter and changer are set while their transaction is
 * not committed.  session becomes 0 when the session ends: then its number is
 * nobody's.
 */
mtype = { UNCHANGED, RELEASED, CLEARED, RENEWED };

typedef Row
{
	byte taker;				/* took the lock; NOBODY: no row */
	byte session;
	bit durable;
	bit lease;
	bit expired;
	byte inserter;
	byte changer;
	mtype change = UNCHANGED;
};
Row row[2];
bit unchanged[PROCS];		/* is the row that a session has read still that version? */

/* What is on disk. */
bit committing[PROCS];		/* the commit may have been flushed, and is not visible */
byte unflushed_unlock;		/* the holder that had the durable lock, or NOBODY */
bit unflushed_lease;
bit unflushed_lock;			/* that of the durable row */
bit unflushed_fence;		/* a fence that was given out */

mtype = { NO_TRANSACTION, OPEN, ENDING };
mtype prepared = NO_TRANSACTION;

bit crashed[PROCS];

/* What only the checks look at. */
byte holder;				/* the session whose holding is in force */
bit holder_is_session;
bit fence_repeats;
bit drawn[PROCS];			/* has a fence that is not committed */
bit passed[PROCS];			/* and another session has committed a later one */
byte later[PROCS];			/* the sessions that drew before this one: a bit each */
bit asleep[PROCS];			/* on the latch */
bit excused[PROCS];			/* a wake-up that is known to be lost */
byte waking;				/* how many are about to wake the lock tag's owner */
chan arrived = [SESSIONS] of { byte };	/* the waiters in the order of arrival */

#define BIT(x)			(1 << (x))
/* For the formula, a session that has the lock does nothing but release it. */
#ifdef SERVED
#define MAY_LOCK		(row[0].taker != me && row[1].taker != me)
#else
#define MAY_LOCK		true
#endif

#define HAS_LOCK_TAG	(tag_owner == me)
#define QUEUED			(tag_queue ?? [eval(me)])
#define COMMITTED(r)	(row[r].taker != NOBODY && row[r].inserter == NOBODY)
#define VISIBLE(r)		(row[r].taker != NOBODY && \
						 (row[r].inserter == NOBODY || row[r].inserter == me) && \
						 (row[r].changer != me || row[r].change == RENEWED))
#define OTHER_CHANGES(r)	(row[r].changer != NOBODY && row[r].changer != me)
#define ALIVE(r)		(row[r].session != 0)

/*
 * The server: tags
 */

/* LockRelease() of the lock tag after a count has changed: the first in the queue gets it. */
inline LockRelease()
{
	if
	:: tag_xact + tag_session == 0 && len(tag_queue) > 0 ->
		tag_queue ? tag_owner;
		tag_xact = 1
	:: tag_xact + tag_session == 0 && len(tag_queue) == 0 ->
		tag_owner = NOBODY
	:: else
	fi
}

/* The tag of the number of x's transaction ends. */
inline end_transaction(x)
{
	p = 1;
	do
	:: p < PROCS && awaited[p] == x -> awaited[p] = NOBODY; p++
	:: p < PROCS && awaited[p] != x -> p++
	:: else -> break
	od;
	p = 0
}

/* A session that has read a row has an old version now. */
inline new_version()
{
	p = 1;
	do
	:: p < PROCS -> unchanged[p] = 0; p++
	:: else -> break
	od;
	p = 0
}

/*
 * The server: rows
 */

inline delete_row(r)
{
	row[r].taker = NOBODY; row[r].session = 0; row[r].durable = 0; row[r].lease = 0;
	row[r].expired = 0; row[r].inserter = NOBODY; row[r].changer = NOBODY;
	row[r].change = UNCHANGED
}

/* The changes of x's transaction to a row become visible. */
inline make_row_visible(x, r)
{
	if
	:: row[r].changer == x && row[r].change == RENEWED ->
		assert(row[r].inserter == x || holder == NOBODY || holder == row[r].taker);
		holder = (row[r].inserter == x -> holder : row[r].taker);
		row[r].expired = 0;
		row[r].changer = NOBODY;
		row[r].change = UNCHANGED;
		new_version()
	:: row[r].changer == x && row[r].change != RENEWED ->
		if
		:: row[r].change == RELEASED && row[r].inserter == NOBODY ->
			assert(row[r].durable || !ALIVE(r) || row[r].session == x);
			holder = NOBODY;
			holder_is_session = 0;
			if
			:: CRASHES && row[r].durable ->
				unflushed_unlock = row[r].taker;
				unflushed_lease = row[r].lease
			:: else
			fi
		:: else
		fi;
		delete_row(r);
		new_version()
	:: else
	fi
}

/* A taking by x becomes visible.  It is in force unless its session is gone. */
inline make_taking_visible(x, r)
{
	if
	:: row[r].taker != NOBODY && row[r].inserter == x ->
		row[r].inserter = NOBODY;
		assert(!passed[x]);
		p = 1;
		do
		:: p < PROCS -> passed[p] = passed[p] || (drawn[p] && (later[x] & BIT(p))); p++
		:: else -> break
		od;
		p = 0;
		if
		:: row[r].durable || ALIVE(r) ->
			assert(holder == NOBODY);
			holder = row[r].taker;
			holder_is_session = !row[r].durable
		:: else
		fi;
		if
		:: row[r].durable ->
			unflushed_unlock = NOBODY;
			unflushed_lease = 0;
#ifdef BUG_NO_SYNC
			unflushed_lock = 1
#endif
		:: else
		fi
	:: else
	fi
}

/* The checks of fences forget x's transaction. */
inline forget_fence(x)
{
	drawn[x] = 0; passed[x] = 0; later[x] = 0
}

/* All changes of x's transaction become visible. */
inline make_visible(x)
{
	make_row_visible(x, 0);
	make_row_visible(x, 1);
	make_taking_visible(x, 0);
	make_taking_visible(x, 1);
	forget_fence(x);
	assert(!(COMMITTED(0) && COMMITTED(1)))
}

inline undo_row(x, r)
{
	if
	:: row[r].taker != NOBODY && row[r].inserter == x -> delete_row(r)
	:: row[r].inserter != x && row[r].changer == x ->
		row[r].changer = NOBODY; row[r].change = UNCHANGED
	:: else
	fi
}

/* The changes of x's transaction are undone. */
inline undo(x)
{
	undo_row(x, 0);
	undo_row(x, 1);
	forget_fence(x)
}

/*
 * session.c
 */

/* The session tag of a session ends. */
inline end_session_tag()
{
#ifndef BUG_OWNER_BY_PID
	if
	:: row[0].session == me -> row[0].session = 0
	:: else
	fi;
	if
	:: row[1].session == me -> row[1].session = 0
	:: else
	fi
#endif
	skip
}

/* The tags of the session go: lock tag and session tag one after the other. */
inline release_session_tags()
{
	atomic {
		if
		:: holder == me && holder_is_session -> holder = NOBODY; holder_is_session = 0
		:: else
		fi;
		if
		:: true -> end_session_tag(); first = 1
		:: HAS_LOCK_TAG && tag_session > 0 -> tag_session = 0; LockRelease()
		fi
	}
	atomic {
		if
		:: first && HAS_LOCK_TAG && tag_session > 0 -> tag_session = 0; LockRelease()
		:: first && !(HAS_LOCK_TAG && tag_session > 0)
		:: !first -> end_session_tag()
		fi;
		first = 0
	}
}

/*
 * holding.c and lookup.c
 */

/* The transaction that is deleting or updating the row that was read. */
inline changing_transaction()
{
	if
	:: unchanged[me] && OTHER_CHANGES(seen) -> awaited[me] = row[seen].changer; changing = 1
	:: else -> awaited[me] = NOBODY; changing = 0
	fi
}

/* As a new snapshot sees it. */
inline tfstate_find_holding()
{
	if
	:: VISIBLE(0) -> seen = 0; unchanged[me] = 1
	:: !VISIBLE(0) && VISIBLE(1) -> seen = 1; unchanged[me] = 1
	:: else -> seen = NONE; unchanged[me] = 0
	fi
}

/*
 * tfstate_delete_holding() and tfstate_update_holding(), with wait.  done says that the
 * row was the version that had been read; if it was not, the caller looks again.
 */
inline change_holding(how)
{
	do
	:: atomic {
		if
		:: !unchanged[me] -> break
		:: unchanged[me] && OTHER_CHANGES(seen) -> awaited[me] = row[seen].changer
		:: unchanged[me] && !OTHER_CHANGES(seen) ->
			row[seen].changer = me;
			row[seen].change = how;
			done = 1;
			break
		fi
		}
		if
		:: awaited[me] == NOBODY
		:: atomic { (CANCELS || terminated[me] || tag_queue ?? [eval(awaited[me])]) &&
			awaited[me] != NOBODY -> goto abort }
		fi
	od
}

/*
 * Reset what a call leaves in its variables, so that states are the same whatever led
 * to them.
 */
inline forget_row()
{
	unchanged[me] = 0; seen = NONE; ended = 0
}

inline forget_call()
{
	forget_row();
	durable = 0; wait = 0; force = 0; had_tag = 0; own = 0; changing = 0; late = 0; done = 0; live = 0;
	barged = 0; latch[me] = 0; awaited[me] = NOBODY; excused[me] = 0
}

/*
 * wait.c
 */

inline tfstate_try_tag()
{
	if
	:: HAS_LOCK_TAG -> tag_xact++
	:: tag_owner == NOBODY -> tag_owner = me; tag_xact = 1
	:: else
	fi
}

inline tfstate_release_tag()
{
	tag_xact--;
	LockRelease()
}

inline leave()
{
	if
	:: arrived ?? [eval(me)] -> arrived ?? eval(me)
	:: else
	fi
}

/* The wait for the lock tag ends with it, in time or not, or without it, or with an error. */
inline tfstate_wait_tag()
{
	if
	:: atomic { HAS_LOCK_TAG -> goto have_lock_tag }
	:: atomic { CANCELS && HAS_LOCK_TAG -> tfstate_release_tag(); leave() }
	:: atomic { CANCELS && QUEUED -> tag_queue ?? eval(me); leave() }
	:: atomic { (CANCELS || terminated[me] || awaited[tag_owner] == me) && QUEUED ->
		tag_queue ?? eval(me); leave(); goto abort }
	fi;
	atomic {
		tfstate_try_tag();
		if
		:: HAS_LOCK_TAG -> late = 1; goto have_lock_tag
		:: else -> forget_call(); goto idle
		fi
	}
}

inline wake_up()
{
	asleep[me] = 0; excused[me] = 0; waiter_tag_owner = NOBODY
}

inline sleep_on_latch()
{
	asleep[me] = 1;
	if
	:: atomic { latch[me] -> wake_up() }
	:: atomic { POLLS -> wake_up() }
	:: atomic { CANCELS -> wake_up(); late = 1 }
	:: atomic { CANCELS || terminated[me] -> goto abort }
	fi
}

/*
 * Owning the lock tag, wait until the row may have changed.  A wait for the waiter tag
 * consumes the wake-up for which the latch was set.
 */
inline tfstate_wait_as_first()
{
	if
	:: atomic { waiter_tag_owner == NOBODY -> waiter_tag_owner = me }
	:: atomic { waiter_tag_owner != NOBODY -> blocked = 1 };
		atomic {
			waiter_tag_owner == NOBODY ->
			waiter_tag_owner = me;
			blocked = 0;
			if
			:: latch[me] -> latch[me] = 0; excused[me] = 1
			:: else
			fi
		}
	fi;
	if
	:: atomic { changing && awaited[me] == NOBODY -> waiter_tag_owner = NOBODY; changing = 0 }
	:: atomic { changing && awaited[me] != NOBODY && CANCELS ->
		waiter_tag_owner = NOBODY; changing = 0; late = 1; awaited[me] = NOBODY }
	:: atomic { changing && awaited[me] != NOBODY &&
		(CANCELS || terminated[me] || tag_queue ?? [eval(awaited[me])]) -> goto abort }
	:: !changing -> sleep_on_latch()
	fi
}

/*
 * Taking (acquire.c)
 */

/* Nobody holds the lock: owning the lock tag, insert the row. */
#define FREE_TO_TAKE	barged = arrived ?? [eval(me)] && !(arrived ? [eval(me)]); leave(); forget_row(); goto free

/*
 * The lock is held: a session that does not want to wait any longer, or would wait for
 * itself, gives the lock tag up.
 */
inline give_up_or_wait()
{
	forget_row();
	if
	:: !wait || late || own -> goto refused
	:: else
	fi
}

/*
 * Owning the lock tag, delete the row that an ended holding has left, without waiting,
 * and find out whether the lock is held.  The row is found with a snapshot; the
 * transaction that is changing it is looked up after that.
 */
inline delete_ended_holdings()
{
	do
	:: atomic {
			excused[me] = 0;
			tfstate_find_holding();
			if
			:: seen == NONE -> FREE_TO_TAKE
			:: seen != NONE && row[seen].durable -> ended = row[seen].expired
#ifdef BUG_RECLAIM_LIVING
			:: seen != NONE && !row[seen].durable -> ended = 1
#else
			:: seen != NONE && !row[seen].durable ->
				ended = !(had_tag && row[seen].session == me)
#endif
			fi;
			own = (row[seen].session == me)
		}
		atomic {
			changing_transaction();
			if
			:: !ended -> give_up_or_wait(); break
			:: else
			fi
		}
		atomic {
			if
			:: !unchanged[me]			/* TM_Deleted, TM_Updated */
			:: unchanged[me] && OTHER_CHANGES(seen) ->	/* TM_BeingModified */
#ifdef BUG_TAKE_CHANGING
				FREE_TO_TAKE
#else
				give_up_or_wait();
				excused[me] = !changing;
				break
#endif
			:: unchanged[me] && !OTHER_CHANGES(seen) ->
				assert(row[seen].inserter == me || holder != row[seen].taker || row[seen].session != holder);
				row[seen].changer = me;
				row[seen].change = CLEARED
			fi
		}
	od
}

/* Leads to free or to refused. */
inline wait_until_free()
{
	do
#ifdef BUG_LOOK_BEFORE_RESET
	:: delete_ended_holdings();
		latch[me] = 0;
#else
	:: latch[me] = 0;
		delete_ended_holdings();
#endif
		tfstate_wait_as_first();
#ifdef BUG_NO_LOOK_AFTER_WAIT
		atomic { FREE_TO_TAKE }
#endif
#ifdef BUG_REQUEUE
		atomic { tfstate_release_tag() };
		atomic { if :: tag_owner != NOBODY -> tag_queue ! me :: else -> tag_owner = me; tag_xact = 1 fi };
		HAS_LOCK_TAG;
#endif
	od
}

/* A new fence, on disk before anybody sees it. */
inline tfstate_next_fence()
{
	assert(!fence_repeats);
	p = 1;
	do
	:: p < PROCS ->
		later[p] = later[p] & ~BIT(me);
		later[me] = (drawn[p] -> later[me] | BIT(p) : later[me]);
		p++
	:: else -> break
	od;
	p = 0;
	drawn[me] = 1;
	passed[me] = 0
#ifdef BUG_FENCE_NOT_FLUSHED
	; unflushed_fence = 1
#endif
}

/* Insert the row. */
inline insert_holding()
{
	assert(!barged);
#ifndef BUG_FENCE_WITHOUT_TAG
	tfstate_next_fence();
#endif
	seen = (row[0].taker == NOBODY -> 0 : 1);
	assert(row[seen].taker == NOBODY);
	row[seen].taker = me;
	row[seen].session = me;
	row[seen].durable = durable;
	row[seen].lease = durable && LEASES;
	row[seen].inserter = me;
	promote = promote || !durable
}

/* Leads to free or to refused. */
inline tfstate_acquire()
{
#ifdef BUG_FENCE_WITHOUT_TAG
	atomic { tfstate_next_fence() };
#endif
	atomic {
		had_tag = HAS_LOCK_TAG;
		tfstate_try_tag();
		if
		:: HAS_LOCK_TAG -> goto have_lock_tag
		:: !HAS_LOCK_TAG && wait -> tag_queue ! me; arrived ! me
		:: !HAS_LOCK_TAG && !wait -> forget_call(); goto idle
		fi
	}
	tfstate_wait_tag();
have_lock_tag:
	wait_until_free();
refused:
	atomic {
		leave();
		tfstate_release_tag();
		forget_call()
	}
	goto idle;
free:
	atomic {
		insert_holding();
		forget_call()
	}
	goto idle
}

/*
 * Releasing (release.c) and renewing (acquire.c)
 */

/* tfstate_current_holding(): a row of a dead session is none. */
inline tfstate_current_holding()
{
	tfstate_find_holding();
	if
	:: seen != NONE && !row[seen].durable && !ALIVE(seen) -> seen = NONE; unchanged[me] = 0
	:: else
	fi
}

/* SIGTERM, and wait for the session tag. */
inline terminate_session()
{
	atomic { terminated[row[seen].session] = ALIVE(seen) };
#ifndef BUG_TERMINATE_NO_WAIT
	if
	:: atomic { !ALIVE(seen) -> skip }
	:: atomic { (CANCELS || terminated[me]) && ALIVE(seen) -> goto abort }
	fi;
#endif
	skip
}

/* tfstate_unlock() and tfstate_force_release(), with force. */
inline tfstate_release()
{
	do
	:: atomic {
			tfstate_current_holding();
			if
			:: seen == NONE -> break
			:: seen != NONE && !force && !(row[seen].durable && row[seen].taker == me) && row[seen].session != me ->
				break		/* not the owner */
			:: else
			fi
		}
		change_holding(RELEASED);
		if
		:: atomic { done ->
			done = 0;
			if
			:: row[seen].durable -> wake = 1
			:: !row[seen].durable && row[seen].session == me -> release = 1
			:: else -> live = 1
			fi;
#ifdef BUG_UNLOCK_EARLY
			if
			:: release -> release = 0; touched = 1; tag_session = 0; LockRelease()
			:: else
			fi;
#endif
			break }
		:: atomic { !done -> skip }
		fi
	od;
	if
	:: atomic { live -> live = 0 }; terminate_session()
	:: else
	fi;
	atomic { forget_call() }
}

inline tfstate_renew_lease()
{
	do
	:: atomic {
			tfstate_current_holding();
			if
			:: seen == NONE -> break
			:: seen != NONE && row[seen].taker != me -> break		/* lost */
			:: else
			fi
		}
		change_holding(RENEWED);
		if
		:: atomic { done -> done = 0; break }
		:: atomic { !done -> skip }
		fi
	od;
	atomic { forget_call() }
}

/*
 * commit.c
 */

inline before_commit()
{
	if
	:: promote -> assert(HAS_LOCK_TAG); tag_session++; promoted = 1
	:: else
	fi
}

/* Only an owner that runs a transaction is found; no other needs to be. */
inline wake_owner()
{
#ifndef BUG_NO_WAKE
	if
	:: tag_owner != me -> latch[tag_owner] = 1
	:: else
	fi
#endif
	skip
}

inline after_commit()
{
	atomic {
		if
		:: release -> assert(HAS_LOCK_TAG && tag_session > 0); tag_session--; LockRelease()
		:: else
		fi;
		release = 0; promote = 0; promoted = 0; touched = 0
	}
	if
	:: atomic { wake ->
		wake = 0;
#ifndef BUG_WAKE_EARLY
		wake_owner();
#endif
		waking-- }
	:: else
	fi
}

inline after_abort()
{
	atomic {
		if
#ifndef BUG_PROMOTION_STAYS
		:: promoted -> tag_session--; LockRelease()
#endif
		:: else
		fi;
		release = 0; promote = 0; promoted = 0; wake = 0; touched = 0
	}
}

/* PREPARE TRANSACTION: from now on the tags and rows are those of PREPARED. */
inline PrepareTransaction()
{
	if
	:: HAS_LOCK_TAG && tag_xact > 0 -> tag_owner = PREPARED
	:: else
	fi;
	seen = 0;
	do
	:: seen < 2 ->
		row[seen].inserter = (row[seen].inserter == me -> PREPARED : row[seen].inserter);
		row[seen].changer = (row[seen].changer == me -> PREPARED : row[seen].changer);
		seen++
	:: else -> break
	od;
	seen = NONE;
	p = 1;
	do
	:: p < PROCS -> awaited[p] = (awaited[p] == me -> PREPARED : awaited[p]); p++
	:: else -> break
	od;
	p = 0;
	drawn[PREPARED] = drawn[me]; passed[PREPARED] = passed[me]; later[PREPARED] = later[me];
	forget_fence(me);
	promote = 0; release = 0; wake = 0; touched = 0;
	prepared = OPEN
}

/* The end of a transaction releases its tags, lock tag and waiter tag in any order. */
inline ResourceOwnerRelease()
{
	atomic { end_transaction(me); awaited[me] = NOBODY; unchanged[me] = 0 }
	do
	:: atomic { HAS_LOCK_TAG && tag_xact > 0 -> tag_xact = 0; LockRelease() }
	:: atomic { waiter_tag_owner == me -> waiter_tag_owner = NOBODY }
	:: !(HAS_LOCK_TAG && tag_xact > 0) && waiter_tag_owner != me -> break
	od
}

/*
 * A session: one transaction after another until it ends, and then another session in
 * its place.
 */
proctype Session(byte me)
{
	bit durable, wait, force;	/* what the call asks for */
	bit had_tag, own, ended, changing, late, blocked, done, live, barged;
	bit promote, promoted, release, wake, touched;	/* what is pending */
	bit first;
	byte operations, p, seen = NONE;

again:
	{
	skip;
idle:
	atomic {
		assert(operations > 0 || waiter_tag_owner != me && !QUEUED);
		assert(operations > 0 || HAS_LOCK_TAG == (holder == me && holder_is_session));
		assert(operations > 0 || !HAS_LOCK_TAG || tag_xact == 0 && tag_session == 1);
		if
		:: operations < OPERATIONS && !terminated[me] ->
			operations++;
			if
			:: SESSION_MODE && MAY_LOCK -> wait = 1; goto lock
			:: SESSION_MODE && MAY_LOCK -> goto lock
			:: DURABLE_MODE && MAY_LOCK -> durable = 1; wait = 1; goto lock
			:: DURABLE_MODE && MAY_LOCK -> durable = 1; goto lock
			:: row[0].taker == me || row[1].taker == me -> goto unlock
			:: FORCES && (row[0].taker != NOBODY || row[1].taker != NOBODY) -> force = 1; goto unlock
			:: LEASES && (row[0].lease && row[0].taker == me || row[1].lease && row[1].taker == me) -> goto renew
			:: DISCARDS && tag_owner == me && tag_session > 0 -> goto discard
			fi
		:: operations > 0 && !terminated[me] -> goto commit
		:: operations > 0 && (CANCELS || terminated[me]) -> goto abort
		:: operations > 0 && PREPARES && prepared == NO_TRANSACTION && !terminated[me] -> goto prepare
		:: operations == 0 && (ENDS || terminated[me]) -> goto end_session
		fi
	}
lock:
	tfstate_acquire();
unlock:
	tfstate_release();
	goto idle;
renew:
	tfstate_renew_lease();
	goto idle;
discard:
	release_session_tags();
	promote = 0;
	release = 0;
	goto idle;

	/* before_prepare() */
prepare:
	atomic {
		if
#ifndef BUG_PREPARE_SESSION
		:: promote || release || touched -> goto abort
#endif
		:: prepared != NO_TRANSACTION -> goto abort		/* enough of them */
		:: tag_owner == me && tag_session > 0 && tag_xact > 0 -> goto abort	/* the server's own rule */
		:: else -> PrepareTransaction(); operations = 0; goto idle
		fi
	}

commit:
#ifdef BUG_WAKE_EARLY
	atomic { if :: wake -> wake_owner() :: else fi };
#endif
	atomic { before_commit() };
	if
	:: atomic { committing[me] = 1 }
	:: atomic { CANCELS -> goto abort }		/* a serialization failure, say */
	fi;
	atomic {
		committing[me] = 0;
		waking = waking + wake;
		make_visible(me)
	}
	after_commit();
	goto end;
abort:
	atomic {
		leave();
		undo(me);
		awaited[me] = NOBODY; asleep[me] = 0; excused[me] = 0;
		blocked = 0;
		forget_call()
	}
	after_abort();
end:
	ResourceOwnerRelease();
	atomic { operations = 0; latch[me] = 0; goto idle };

end_session:
	release_session_tags();
	atomic { terminated[me] = 0; goto idle }
	} unless { crashed[me] }
	atomic {
		crashed[me] = 0;
		operations = 0; first = 0; blocked = 0;
		forget_call();
		promote = 0; promoted = 0; release = 0; wake = 0; touched = 0;
		goto again
	}
}

/* What a crash leaves of a session and of its transaction. */
inline crash_session(x)
{
	if
	:: committing[x] -> make_visible(x)
	:: true -> undo(x)
	fi;
	committing[x] = 0; awaited[x] = NOBODY; unchanged[x] = 0; latch[x] = 0; terminated[x] = 0;
	asleep[x] = 0; excused[x] = 0; crashed[x] = 1
}

/* Rows of session mode are gone; durable ones may be if it was no clean restart. */
inline crash_row(r, stay)
{
	row[r].session = 0;
	if
	:: row[r].taker != NOBODY && !row[r].durable -> delete_row(r)
	:: row[r].taker != NOBODY && row[r].durable && unflushed_lock && !stay -> delete_row(r)
	:: else
	fi
}

/*
 * kill -9, immediate shutdown, restart, and failover to a synchronous standby: all of
 * them lose the tags.  A committed unlock is lost if it was not flushed.
 */
proctype Crash()
{
	byte p, x;
	bit stay;

end:
	do
	:: atomic {
		CRASHES && !crashed[1] && !crashed[2] && !crashed[SESSIONS] && prepared != ENDING ->
		x = 1;
		do
		:: x <= SESSIONS -> crash_session(x); x++
		:: else -> break
		od;
		x = 0;
		if :: stay = 0 :: stay = 1 fi;
		crash_row(0, stay);
		crash_row(1, stay);
		if
		:: holder_is_session -> holder = NOBODY; holder_is_session = 0
		:: else
		fi;
		if
		:: unflushed_unlock != NOBODY && !stay ->
			assert(!(COMMITTED(0) && row[0].durable) && !(COMMITTED(1) && row[1].durable));
			x = (row[0].taker == NOBODY -> 0 : 1);
			delete_row(x);
			row[x].taker = unflushed_unlock; row[x].durable = 1; row[x].lease = unflushed_lease;
			holder = unflushed_unlock
		:: true
		fi;
		unflushed_unlock = NOBODY; unflushed_lease = 0; unflushed_lock = 0;
		fence_repeats = fence_repeats || unflushed_fence && !stay;
		unflushed_fence = 0; stay = 0;
		if
		:: prepared == OPEN && tag_owner == PREPARED -> tag_xact = 1
		:: else -> tag_owner = NOBODY; tag_xact = 0
		fi;
		tag_session = 0; waiter_tag_owner = NOBODY; waking = 0; awaited[PREPARED] = NOBODY;
		do :: tag_queue ? _ :: empty(tag_queue) -> break od;
		do :: arrived ? _ :: empty(arrived) -> break od;
		x = 0
		}
	od
}

/*
 * Any session ends the prepared transaction.  Its commit wakes nobody, although a
 * session that sleeps then may have looked before the row was changed.
 */
proctype FinishPreparedTransaction()
{
	byte p;

end:
	do
	:: 	atomic {
		prepared == OPEN ->
		if
		:: true -> make_visible(PREPARED); excused[tag_owner] = 1; unflushed_unlock = NOBODY; unflushed_lease = 0
		:: true -> undo(PREPARED)
		fi;
		prepared = ENDING
	}
	atomic {
		end_transaction(PREPARED);
		if
		:: tag_owner == PREPARED -> tag_xact = 0; LockRelease()
		:: else
		fi;
		prepared = NO_TRANSACTION
	}
	od
}

/* A lease expires. */
proctype Clock()
{
end:
	do
	:: atomic { COMMITTED(0) && row[0].lease && !row[0].expired ->
		row[0].expired = 1;
		holder = (holder_is_session -> holder : NOBODY) }
	:: atomic { COMMITTED(1) && row[1].lease && !row[1].expired ->
		row[1].expired = 1;
		holder = (holder_is_session -> holder : NOBODY) }
	od
}

#define FREE(r)		(!COMMITTED(r) || row[r].changer == NOBODY && !row[r].durable && !ALIVE(r))

/* A session sleeps that should not. */
proctype Monitor()
{
end:
	atomic { asleep[tag_owner] && !latch[tag_owner] && !excused[tag_owner] && waking == 0 &&
			 FREE(0) && FREE(1) ->
		assert(false)	/* never reached */
	}
}

init
{
	byte s = 1;

	atomic {
		do
		:: s <= SESSIONS -> run Session(s); s++
		:: else -> break
		od;
		if :: CRASHES -> run Crash() :: else fi;
		if :: PREPARES -> run FinishPreparedTransaction() :: else fi;
		if :: LEASES -> run Clock() :: else fi;
		run Monitor()
	}
}

#ifdef SERVED
ltl served { [] ((arrived ?? [1]) -> <> !(arrived ?? [1])) }
#endif
