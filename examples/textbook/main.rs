//! What textbooks say about convolution, with small tensors to look at:
//!
//! ```text
//! cargo run --release --example textbook
//! ```
//!
//! Each chapter prints what goes in and what comes out. A line that begins with `checked:` was: two
//! results are the same to the last bit, or numbers are equal, and the program ends where they are not.
//! Tensors hold small whole numbers, whose sums are exact in any order, so other ways to the same sum
//! have the same bits, too.

mod channels;
mod correlation;
mod first;
mod layers;
mod matrices;
mod moved;
mod print;
mod windows;

use tapwise::Error;

fn main() -> Result<(), Error> {
    print::prose(
        "Convolution, from one call to deformable kernels. Tensors are PyTorch's NCHW: batch, \
         channels, rows, pixels. What is checked is checked to the last bit.",
    );

    print::chapter("One call, or a layer that is packed once");
    first::two_ways()?;
    print::chapter("How large the output is");
    first::sizes()?;
    print::chapter("What does not fit is an error");
    first::mismatches();

    print::chapter("What stands in the padding");
    windows::padding_modes()?;
    print::chapter("Dilation: taps further apart");
    windows::dilation()?;
    print::chapter("The receptive field: what an output sees through several layers");
    windows::receptive_field()?;

    print::chapter("Groups: channels that do not meet");
    channels::groups()?;
    print::chapter("Depthwise-separable: first each channel, then all channels of a pixel");
    channels::separable()?;
    print::chapter("The 1x1 bottleneck: few channels where the window is wide");
    channels::bottleneck()?;

    print::chapter("Unfolding: a convolution as a matrix product");
    matrices::unfolded()?;
    print::chapter("The kernel matrix: the whole layer as one matrix");
    let matrix = matrices::kernel_matrix()?;
    print::chapter("Transposed: the same matrix the other way");
    matrices::transposed(&matrix)?;

    print::chapter("Flipped: convolution in the sense of mathematics");
    moved::flipped()?;
    print::chapter("Correlation: the kernel is another image");
    correlation::dense_and_depthwise()?;
    print::chapter("A batch of correlations, by groups");
    correlation::batch()?;
    print::chapter("Deformable: each tap reads where an offset moves it");
    moved::deformable()
}
