//! What every stack is given and has to do, for the executables that measure them: `cubed-peers`, and those of stacks that are
//! packages of their own.

pub mod load;

pub mod stack;

pub mod side;
